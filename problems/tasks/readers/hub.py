"""Load the splits of a data set from the hub or from a local folder."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import datasets
from datasets.exceptions import DatasetGenerationError

from configs.errors import UserError
from problems.machine.hub import explain_missing
from problems.tasks.readers.cache import loaded

T = TypeVar("T")


def load_splits(path: str, hub_config: str | None, name: str) -> Any:
    """The splits of a hub name or a local folder. Raises UserError, naming path and task, if they cannot be loaded."""
    with explain_missing("--task.path", f"{path}, {name}"):
        try:
            return loaded(path, hub_config, cache_of(Path(path)))
        except DatasetGenerationError as error:  # its own text says nothing, its cause names the fault
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            raise UserError(
                f"--task.path: {path} cannot be read ({reason}); allowed: files of one kind, all with the same columns"
            ) from error


def split_of(splits: Mapping[str, T], name: str, source: str) -> T:
    """One split of those that `source` has. Raises UserError, naming them, where it is not among them."""
    if name not in splits:
        raise UserError(f"--task.evaluation_split: {source} has no split {name!r}; it has: {', '.join(splits)}")
    return splits[name]


def cache_of(path: Path) -> str | None:
    """A folder in datasets' cache for the files of a local folder as they are now; None for a hub name.

    datasets itself looks only at the folder's last name and the configuration: it would return the rows of another
    folder of that name, or rows from before a change.
    """
    if not path.is_dir():
        return None
    files = sorted(file for file in path.resolve().rglob("*") if file.is_file())
    content = "".join(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}\n" for file in files)
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "folders" / hashlib.sha256(content.encode()).hexdigest()[:16])
