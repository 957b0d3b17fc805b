"""The chat template that a run uses: the model's own or that of a file, with a fixed date in place of the day's."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateSyntaxError
from jinja2.ext import Extension
from transformers import PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.problems.encoding import utf8
from autolora.problems.tasks.template_dates import CODES, unknown_codes, with_fixed_date, with_formats
from autolora.problems.tasks.templates import template_of


def take_template(tokenizer: PreTrainedTokenizerBase, file: str | None) -> None:
    """Gives the tokenizer the template in `file` (task.chat_template; None: it keeps its own), with a fixed date.

    Raises UserError where the file has no template, and for a date of which a part cannot be fixed.
    """
    text = template_of(tokenizer) if file is None else _read(file)
    if text is None:
        return
    dated = with_fixed_date(text)
    if dated != text:
        _refuse_unknown_codes(tokenizer, text, file or f"the model's own ({tokenizer.name_or_path})")
    if file is not None:
        tokenizer.chat_template = dated
    elif dated != text:
        own: Any = tokenizer.chat_template
        tokenizer.chat_template = {**own, "default": dated} if isinstance(own, dict) else dated


def _refuse_unknown_codes(tokenizer: PreTrainedTokenizerBase, text: str, name: str) -> None:
    """Raises UserError where the template prints a part of the date that would stay a code, such as %s."""
    turn: Any = [{"role": "user", "content": "quagmire"}]
    try:
        codes = unknown_codes(
            str(tokenizer.apply_chat_template(turn, chat_template=with_formats(text), tokenize=False))
        )
    except Exception:  # a template that refuses this turn or fails on it, with any error: the rows tell
        return
    if codes:
        raise UserError(
            f"--task.chat_template: {name} prints the day's date with {codes[0]}, which cannot be fixed; "
            f"allowed: {' '.join(CODES)}"
        )


def _read(file: str) -> str:
    try:
        text = utf8(f"--task.chat_template: {file}", Path(file).expanduser())
        _SYNTAX.compile(text)  # also finds a filter that does not exist
    except OSError as error:
        raise UserError(f"--task.chat_template: {file} cannot be read ({error.strerror})") from error
    except TemplateSyntaxError as error:
        raise UserError(f"--task.chat_template: {file}, line {error.lineno}: {error.message}") from error
    if not text.strip():
        raise UserError(f"--task.chat_template: {file} is empty; allowed: a Jinja template")
    return text


class _Marks(Extension):
    """Parses the tag `generation`, which transformers adds to Jinja."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_SYNTAX = Environment(extensions=[_Marks, "jinja2.ext.loopcontrols"])
