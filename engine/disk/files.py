"""Read and write files so that a reader sees the old or the new content, never half of it."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from configs.errors import UserError


def remove(path: Path) -> None:
    """Removes a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def keep_only(paths: Iterable[Path], folder: Path) -> None:
    """Removes what lies in `folder` besides `paths`, if there is such a folder."""
    for path in set(folder.iterdir()) - set(paths) if folder.is_dir() else ():
        remove(path)


def write_text(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old or the new content, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty when there is no such file.

    Raises UserError that names the file when it cannot be read as a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: needs an object with names and values; holds {value!r:.60}")
    return value


def write_json(path: Path, value: Any) -> None:
    """`write_text` of a value as indented JSON; refuses NaN, which JSON has not."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Writes a table as `write_text` does a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    table.to_parquet(temporary, index=False)
    os.replace(temporary, path)
