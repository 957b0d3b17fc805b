"""Messages of the search in the words of a script, which has arguments and no command line."""

from collections.abc import Iterator
from contextlib import contextmanager

from configs.errors import UserError

_IN_SCRIPTS = {
    "--lora.k": "lora_config.r",
    "--lora.dropout": "lora_config.lora_dropout",
    "--lora.": "lora_config.",
    "a larger --task.validation_share": "a validation_dataset",
    "another share": "a validation_dataset",
    "--task.validation_share": "train_dataset",
}
"""What a message says on the command line -> what it says in a script; replaced in this order."""


@contextmanager
def named_as_in_scripts() -> Iterator[None]:
    """Inside the `with` block, a UserError names arguments of the script instead of options that it does not have."""
    try:
        yield
    except UserError as error:
        message = str(error)
        for option, argument in _IN_SCRIPTS.items():
            message = message.replace(option, argument)
        error.args = (message,)
        raise
