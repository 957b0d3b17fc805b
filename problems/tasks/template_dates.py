"""Templates that print the day's date, such as Llama 3.2's, print one fixed date instead.

The rows of a run would otherwise change from one day to the next, so that it could not be resumed, and the prompt with
which the adapter is used later would not be the one that was learned. The date is written into the template itself,
which is saved with the adapter.
"""

import re
from datetime import datetime

_COMMENT = re.compile(r"\{#.*?#\}", re.S)
# The date that Llama's templates print where no date is known.
_MOMENT = datetime(2024, 7, 26, 12)
DATE = _MOMENT.strftime("%d %b %Y")
_CODES = ("%-d", "%d", "%e", "%-m", "%m", "%Y", "%y", "%B", "%b", "%A", "%a", "%j", "%F", "%H", "%I", "%M", "%S", "%p")
_REPLACED = "".join(f" | replace('{code}', '{_MOMENT.strftime(code)}')" for code in _CODES)
# The line's end is there for a template that begins with white space: Jinja takes this one away, and none of its own.
_FIXED = f"{{%- macro strftime_now(format) -%}}{{{{- format{_REPLACED} -}}}}{{%- endmacro %}}\n"
"""A macro that stands for the function of this name, which transformers gives to templates."""


def with_fixed_date(template: str) -> str:
    """The template with DATE in place of the day's date; the same template where it prints no date of the day."""
    if has_date(template) or not re.search(r"\bstrftime_now\b", _COMMENT.sub("", template)):
        return template
    return _FIXED + template


def has_date(template: str | None) -> bool:
    """Whether `with_fixed_date` has changed the template."""
    return template is not None and template.startswith(_FIXED)
