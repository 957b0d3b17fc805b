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
CODES = (
    "%-d", "%d", "%e", "%-m", "%m", "%Y", "%-y", "%y", "%C", "%G", "%B", "%b", "%h", "%A", "%a", "%-j",
    "%j", "%u", "%w", "%U", "%V", "%W", "%F", "%D", "%x", "%-H", "%H", "%-I", "%I", "%k", "%l", "%-M",
    "%M", "%-S", "%S", "%f", "%p", "%P", "%T", "%R", "%X", "%r", "%c", "%Z", "%z", "%n", "%t",
)  # fmt: skip
_CODE = re.compile(r"%[-_^#:EO\d]*[A-Za-z%]")
# Stands for %% while the codes are replaced: there is no code in %%d.
_PERCENT = "<percent>"
_FENCE = "\ue000"  # no template writes this character
_VALUES = [("%%", _PERCENT), *((code, _MOMENT.strftime(code)) for code in CODES), (_PERCENT, "%")]
_REPLACED = "".join(f" | replace('{code}', {value!r})" for code, value in _VALUES)
# The macro ends with a line break because Jinja removes the line break after it; without it, Jinja would remove white
# space with which the template itself begins.
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


def with_formats(template: str) -> str:
    """The template with the format of each date in place of the date, for `unknown_codes`."""
    fenced = f"{{{{- '{_FENCE}' ~ format ~ '{_FENCE}' -}}}}"
    return f"{{%- macro strftime_now(format) -%}}{fenced}{{%- endmacro %}}\n{template}"


def unknown_codes(text: str) -> list[str]:
    """The codes that the macro would leave as they are, in what a template `with_formats` writes."""
    return [code for form in text.split(_FENCE)[1::2] for code in _CODE.findall(form) if code not in (*CODES, "%%")]
