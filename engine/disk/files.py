"""Read and write files so that a reader sees the old or the new content, never half of it."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError


def remove(path: Path) -> None:
    """Removes a file or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def stamp(path: Path) -> tuple[int, int] | None:
    """A value that changes whenever the file is written (inode, time in ns); None if there is no
    such file."""
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def keep_only(paths: Iterable[Path], folder: Path) -> None:
    """Removes everything in `folder` except `paths`; does nothing if there is no such folder."""
    if not folder.is_dir():
        return
    for path in set(folder.iterdir()) - set(paths):
        remove(path)


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the body a temporary path to write a file to, and then replaces `path` by that file.

    The file is synced to the disk first. A reader sees the old or the new content, never half of
    it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    yield temporary
    sync(temporary)
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Writes a text to `path`, atomically (see `replacing`)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically. Raises ValueError for NaN and infinity, which
    JSON cannot hold."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def load_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises UserError that names the file when it cannot be read as JSON, or when one object gives a
    name twice: Python would silently keep the last.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty when there is no such file. Raises UserError as `load_json`
    does."""
    # exists() is also False if a parent of the path is a file.
    value = load_json(path) if path.exists() else {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: needs an object with names and values; holds {value!r:.60}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these names and values. Raises ValueError for a name that is given twice:
    Python would keep the last without a word."""
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]!r} is given twice in one object")
    return dict(pairs)


def read_json_lines(path: Path) -> list[Any]:
    """The values in a file with one JSON value a line, without a last line that a kill cut in half;
    none when there is no such file. Raises UserError that names a damaged file."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
