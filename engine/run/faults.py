"""The one place where an error that ended a command becomes a line and an exit code; the traceback
is in log.txt."""

import errno
import traceback

from autolora.configs.errors import UserError

BETTY = "pip install --no-deps --ignore-requires-python betty-ml==0.2.1"

_DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.EACCES,
    errno.EPERM,
)
# Rust (safetensors) and C++ (torch, arrow) tell their faults by errors that only the text tells
# apart. torch.save says "unexpected pos" where a disk is full.
_OF_DISK = (
    "no space left",
    "file too large",
    "read-only file system",
    "unexpected pos",
    "failed writing file",
)
_OF_MEMORY = ("out of memory", "can't allocate")


def told(error: Exception) -> tuple[str, int]:
    """What the user reads of an error, and the exit code: 2 for what the user can change, else 1. A
    bug of this program says that it is one."""
    if isinstance(error, UserError):
        return str(error), 2
    if (advice := _advice(error)) is not None:
        return advice, 2
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = frame.f_globals["__name__"]
    source = (
        "this is a bug of this program" if module.startswith("autolora.") else f"raised by {module}"
    )
    return "; ".join([said, source, *getattr(error, "__notes__", [])]), 1


def _advice(error: Exception) -> str | None:
    """What to do about a fault of the machine or of the installation; None for any other error."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _OF_MEMORY):
        return (
            "out of memory: give a lower batch size (--search.batch_size, "
            "--retrain.batch_size, in evaluation --retrain.eval_batch_size or "
            "--task.decode.batch_size), a lower --task.max_length, or "
            "--model.gradient_checkpointing true; what was saved is intact"
        )
    if getattr(error, "errno", None) in _DISK or any(words in text.lower() for words in _OF_DISK):
        return f"cannot read or write: {text}; what was saved is intact: the same command resumes"
    if (
        not isinstance(error, ModuleNotFoundError)
        or error.name is None
        or error.name.startswith("autolora")
    ):
        return None
    if error.name.partition(".")[0] == "betty":
        return f"a search needs Betty; run: {BETTY}   (or start with `uv run run.py`)"
    return (
        f"the Python package {error.name} is not installed here; start with `uv run run.py`, "
        "or see README, "
        '"Without uv"'
    )
