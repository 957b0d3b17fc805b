"""Messages of the search in the words of a script, which has arguments and no command line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from autolora.configs.errors import UserError
from autolora.engine.terminal.console import inputs

_IN_SCRIPTS = {
    "--lora.k": "lora_config.r",
    "--lora.dropout": "lora_config.lora_dropout",
    # A script has no null: without modules_to_save, PEFT trains no pooler.
    '--lora.modules_to_save null, or "[pooler]",': 'lora_config.modules_to_save ["pooler"]',
    "--lora.": "lora_config.",
    "--model.gradient_checkpointing": "the model's gradient checkpointing",
    "--device": "the model's device",
    "a larger --task.validation_share": "a validation_dataset",
    "another share": "a validation_dataset",
    "--task.validation_share": "train_dataset",
}
"""What a message says on the command line -> what it says in a script; replaced in this order."""


@contextmanager
def named_as_in_scripts() -> Iterator[None]:
    """Inside the `with` block, a UserError, and a log line about the rows or the model, name arguments of the script
    instead of options that it does not have."""
    inputs.addFilter(_reworded)
    try:
        yield
    except UserError as error:
        error.args = (_in_script_words(str(error)),)
        raise
    finally:
        inputs.removeFilter(_reworded)


def _reworded(record: logging.LogRecord) -> bool:
    record.msg, record.args = _in_script_words(record.getMessage()), ()
    return True


def _in_script_words(message: str) -> str:
    for option, argument in _IN_SCRIPTS.items():
        message = message.replace(option, argument)
    return message
