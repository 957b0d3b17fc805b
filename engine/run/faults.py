"""Tell faults of the machine (too little memory, a disk that cannot be written) in one line instead of a traceback."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autolora.configs.errors import UserError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENAMETOOLONG)
# Rust (safetensors) and C++ (torch, arrow) tell their faults by errors that only the text tells apart. torch.save says
# "unexpected pos" where a disk is full.
_OF_DISK = ("no space left", "file too large", "read-only file system", "unexpected pos", "failed writing file")
_OF_MEMORY = ("out of memory", "can't allocate")


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Raises UserError, one line, if the body fails because memory or disk space is used up. `root`: the folder in
    which the body works."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = str(error).lower()
        if isinstance(error, MemoryError) or any(words in text for words in _OF_MEMORY):
            raise UserError(
                f"out of memory: give a lower batch size (--search.batch_size, --retrain.batch_size, in evaluation "
                f"--retrain.eval_batch_size or --task.decode.batch_size), a lower --task.max_length, or "
                f"--model.gradient_checkpointing true; what was saved in {root} is intact"
            ) from error
        if getattr(error, "errno", None) in _DISK or any(words in text for words in _OF_DISK):
            said = " ".join(str(error).split())
            raise UserError(
                f"cannot read or write: {said}; what was saved in {root} is intact: the same command resumes"
            ) from error
        raise
