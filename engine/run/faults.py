"""Explain faults of the machine (a full disk, too little memory) in one line instead of a traceback."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autolora.configs.errors import UserError
from autolora.configs.facts import evaluation_batch, trains_blocks
from autolora.configs.recipe import writes_texts
from autolora.configs.schema import RunConfig
from autolora.configs.values import accepted

_DISK = {
    errno.ENOSPC: "no space is left there",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file would be larger than allowed",
    errno.EROFS: "it is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EIO: "the disk reports an error",
    errno.ENAMETOOLONG: "the path is longer than the file system allows",
}
# Rust (safetensors) and C++ (torch.save, arrow) report a failed write by errors that only their text tells apart.
_WORDS = {
    "no space left": errno.ENOSPC,
    "os error 28": errno.ENOSPC,
    "code: 28": errno.ENOSPC,
    "code: 27": errno.EFBIG,
    "file too large": errno.EFBIG,
    "read-only file system": errno.EROFS,
    "failed writing file": errno.ENOSPC,
    "unexpected pos": errno.ENOSPC,
}


@contextmanager
def explained(config: RunConfig, root: Path) -> Iterator[None]:
    """Raises UserError, which says what to do, if the body fails because memory or disk space is used up, a file
    cannot be read or written, or torch cannot compile the model."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        line = _explain(error, config, root)
        if line is None:
            raise
        raise UserError(line) from error


def _explain(error: Exception, config: RunConfig, root: Path) -> str | None:
    text = str(error).lower()
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in text
        or "can't allocate" in text
    ):
        return _out_of_memory(config, root)
    if config.retrain.torch_compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return (
            f"--retrain.torch_compile: this machine cannot compile the model ({str(error).strip().splitlines()[0]}); "
            f"the same command with --retrain.torch_compile false resumes without it"
        )
    if isinstance(error, FileNotFoundError) and _inside(error.filename, root) and not root.exists():
        return (
            f"cannot read or write {error.filename}: {root} is gone; was it removed, renamed, or its disk "
            f"unmounted? Once it is back, the same command resumes; without it, it starts again"
        )
    number = error.errno if isinstance(error, OSError) else None
    if number not in _DISK:
        number = next((code for words, code in _WORDS.items() if words in text), None)
    if number not in _DISK:
        return None
    where = getattr(error, "filename", None) or root
    elsewhere = ", or name another --runs_folder" if where == root or _inside(where, root) else ""
    return (
        f"cannot read or write {where}: {_DISK[number]}; what was saved in {root} is intact: once this is repaired, "
        f"the same command resumes{elsewhere}"
    )


def _out_of_memory(config: RunConfig, root: Path) -> str:
    """The settings that need less memory, with their values: first those under which a half-done run resumes."""
    again, batch, resumes = {"model.gradient_checkpointing": True}, evaluation_batch(config), []
    if not config.model.gradient_checkpointing and trains_blocks(config) and accepted(config, again):
        resumes.append("--model.gradient_checkpointing true")
    if batch > 1:
        resumes.append(f"--retrain.eval_batch_size below {batch}")
    if writes_texts(config.task) and config.decode.batch_size > 1:
        resumes.append(f"--decode.batch_size below {config.decode.batch_size}")
    first = f"the same command resumes with {', '.join(resumes)}; " if resumes else ""
    precision = ", --precision auto" if config.precision == "fp32" else ""
    return (
        f"out of memory: {first}with --overwrite it starts again, then {'also ' if resumes else ''}with a lower "
        f"--search.batch_size (now {config.search.batch_size}), --retrain.batch_size (now "
        f"{config.retrain.batch_size}; raise --retrain.gradient_accumulation, now "
        f"{config.retrain.gradient_accumulation}, to match), --task.max_length (now {config.task.max_length})"
        f"{precision}; what was saved is in {root}"
    )


def _inside(path: object, root: Path) -> bool:
    """Whether an error's file, which may be unknown, is in the folder `root`."""
    return isinstance(path, str | os.PathLike) and Path(path).is_relative_to(root)
