"""Why a cell of a study failed: kept in its folder until it begins to train again."""

from contextlib import suppress

from autolora.configs.plain import plain
from autolora.engine.disk.files import write_text
from autolora.engine.run.folder import RunFolder


def keep_failure(folder: RunFolder, why: str, trace: str = "") -> bool:
    """Writes failure.txt: the reason in the first line and, of an unexpected error, the traceback below it. Returns
    False if the study has no folder for its cells yet, as no cell has begun: a refused study leaves nothing behind.

    If the file cannot be written, as on a full disk, nothing is kept: the reason is in the log.
    """
    if not folder.root.parent.exists():
        return False
    with suppress(OSError):
        write_text(folder.failure, plain("\n\n".join(filter(None, (why, trace.strip()))), keep="\n\t") + "\n")
    return True


def failure_of(folder: RunFolder) -> str:
    """Why the cell failed, in one line; "" if it has not failed, or has begun to train again since."""
    return _content(folder).partition("\n")[0]


def has_traceback(folder: RunFolder) -> bool:
    """Whether the cell failed by an unexpected error, whose traceback is in failure.txt."""
    return bool(_content(folder).partition("\n")[2].strip())


def _content(folder: RunFolder) -> str:
    with suppress(OSError):
        return folder.failure.read_text(encoding="utf-8", errors="replace")
    return ""
