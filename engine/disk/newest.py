"""Find the newest intact checkpoint and read its state without its tensors, so that torch need not be loaded."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autolora.engine.disk.files import remove

TENSORS, STATE, SUMS = "tensors.safetensors", "state.json", "checksums.json"


def peek(folder: Path) -> dict[str, Any]:
    """The state of the newest checkpoint whose state.json is intact, without its tensors; empty when there is none."""
    for candidate in candidates(folder):
        if intact(candidate, (STATE,)):
            state: dict[str, Any] = json.loads((candidate / STATE).read_text(encoding="utf-8"))
            return state
    return {}


def clear(folder: Path) -> None:
    """Removes a checkpoint, its <name>.previous, and one that a killed process has half written."""
    for candidate in (*candidates(folder), half_written(folder)):
        remove(candidate)


def candidates(folder: Path) -> Iterator[Path]:
    """The two folders that may hold a checkpoint, the newer first: `folder` and its <name>.previous."""
    yield folder
    yield previous(folder)


def previous(folder: Path) -> Path:
    """The folder of the checkpoint that was written before the one in `folder`."""
    return folder.with_name(f"{folder.name}.previous")


def half_written(folder: Path) -> Path:
    """The hidden folder in which a checkpoint lies until it is complete."""
    return folder.with_name(f".{folder.name}.writing")


def intact(folder: Path, names: Sequence[str] = (TENSORS, STATE)) -> bool:
    """Whether these files of a checkpoint exist with the content that was written."""
    try:
        sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
        return all(checksum(folder / name) == sums[name] for name in names)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
