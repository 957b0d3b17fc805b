"""Read from the cache of the package datasets; a damaged cache file is overwritten, with a warning."""

import json
import logging
import shutil
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from datasets import Dataset, DownloadMode, load_dataset

log = logging.getLogger("autolora.inputs")


class _Damaged(Exception):
    """A file that can be opened, but does not hold what was written to it."""


def mapped(rows: Dataset, function: Callable[[dict[str, list[Any]]], dict[str, Any]], **options: Any) -> Dataset:
    """`rows.map(function, batched=True)`, read from the cache if it has the result undamaged."""
    try:
        found = rows.map(function, batched=True, **options)
        _check(found)
        if len(found) != len(rows):
            raise _Damaged(f"{len(found)} rows in place of {len(rows)}")
        return found
    except Exception as error:
        _raise_unless_damaged(error)
        _warn("the tokenised rows", error)
    return rows.map(function, batched=True, load_from_cache_file=False, **options)


def loaded(path: str, hub_config: str | None, folder: str | None, **options: Any) -> Any:
    """`load_dataset`, read from the cache if it has the data undamaged; `folder`: this program's own cache."""
    try:
        splits = load_dataset(path, hub_config, cache_dir=folder, **options)
        for rows in splits.values():
            _check(rows)
        return splits
    except Exception as error:
        _raise_unless_damaged(error)
        _warn(f"the data of {path}", error)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return load_dataset(
        path, hub_config, cache_dir=folder, download_mode=DownloadMode.REUSE_CACHE_IF_EXISTS, **options
    )


def _check(rows: Dataset) -> None:
    """Raises where a file of the rows does not hold what its own header says."""
    rows.data.validate(full=True)


def _raise_unless_damaged(error: Exception) -> None:
    """Raises `error` unless it means a damaged file.

    pyarrow reports damage as an OSError without errno; an OSError of the system, as for a full disk, has an errno.
    """
    if type(error) is OSError and error.errno is None:
        return
    if not isinstance(error, _Damaged | pa.ArrowException | UnicodeDecodeError | json.JSONDecodeError):
        raise error


def _warn(what: str, error: Exception) -> None:
    reason = " ".join(str(error).split())[:120]
    log.warning("%s in the cache are damaged (%s), and are overwritten", what, reason)
