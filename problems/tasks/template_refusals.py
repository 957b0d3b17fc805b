"""A chat template that refuses a row, fails on it, or does not show the answer in it, in words for the user."""

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from autolora.configs.errors import UserError


class RowRefused(ValueError):
    """A template refuses a conversation, in its own words, or fails on it, with Python's or Jinja's error.

    The message begins with a verb; `refusal` puts the template's name before it.
    """


class TemplateRefused(ValueError):
    """A template does not show which tokens belong to an answer.

    The message begins with a verb; `refusal` puts the template's name before it.
    """


def row_refused(error: Exception) -> RowRefused:
    """The refusal of a row for which a template has raised this error."""
    name, said = type(error).__name__, " ".join(str(error).split())
    if type(error) is TemplateError:  # what the template itself raises, by raise_exception
        return RowRefused(f"refuses this row ({said or name})")
    return RowRefused(f"fails on this row ({name}{': ' * bool(said)}{said})")


def refusal(
    error: RowRefused | TemplateRefused, where: str, file: str | None, tokenizer: PreTrainedTokenizerBase
) -> UserError:
    """The UserError for a template that refuses a row, or that does not show the answer in it.

    `where`: the beginning of a message about the row. `file`: the template's file; None: the model's own template.
    """
    name = file or f"the model's own ({tokenizer.name_or_path})"
    if isinstance(error, RowRefused):
        return UserError(
            f"{where}: the chat template, {name}, {error}; change the row, or give another template with "
            f"--task.chat_template"
        )
    return UserError(
        f"--task.chat_template: {name} {error} ({where}), so that the tokens of an answer are not known; give a "
        f"template that marks them by {{% generation %}}, or one that only appends text for each turn"
    )
