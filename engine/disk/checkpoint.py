"""Atomic, checksummed checkpoints: a folder with tensors (safetensors) and the rest (JSON). No pickle.

A checkpoint is written beside its place, synced and renamed; the one before stays as <name>.previous until then, so
that at every moment one complete checkpoint exists.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.disk.files import remove, sync

log = logging.getLogger("autolora")

_TENSORS, _STATE, _SUMS = "tensors.safetensors", "state.json", "checksums.json"
_TENSOR = "tensor:"


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint at `folder`. `state`: mappings and lists of tensors and of what JSON can hold."""
    fresh = folder.with_name(f".{folder.name}.writing")
    remove(fresh)
    fresh.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    (fresh / _STATE).write_text(json.dumps(_without_tensors(state, tensors)), encoding="utf-8")
    save_file(tensors, fresh / _TENSORS)
    sums = {name: checksum(fresh / name) for name in (_TENSORS, _STATE)}
    (fresh / _SUMS).write_text(json.dumps(sums), encoding="utf-8")
    for name in (_TENSORS, _STATE, _SUMS):
        sync(fresh / name)
    previous = _previous(folder)
    # A damaged newest checkpoint must not replace the good one before it.
    if folder.exists() and _intact(folder):
        remove(previous)
        os.replace(folder, previous)
    else:
        remove(folder)
    os.replace(fresh, folder)
    sync(folder.parent)


def load(folder: Path) -> dict[str, Any] | None:
    """The state in the newest intact checkpoint at `folder`, tuples as lists; None when there is no checkpoint.

    Warns when the newest is damaged and the one before is used.
    """
    for candidate in (folder, _previous(folder)):
        if not candidate.exists():
            continue
        if _intact(candidate):
            state = json.loads((candidate / _STATE).read_text(encoding="utf-8"))
            found: dict[str, Any] = _with_tensors(state, load_file(candidate / _TENSORS))
            return found
        log.warning("checkpoint %s is damaged; trying the one before", candidate)
    return None


def peek(folder: Path) -> dict[str, Any]:
    """The state of the newest checkpoint whose state is whole, without its tensors; empty when there is none."""
    for candidate in (folder, _previous(folder)):
        if _intact(candidate, (_STATE,)):
            state: dict[str, Any] = json.loads((candidate / _STATE).read_text(encoding="utf-8"))
            return state
    return {}


def clear(folder: Path) -> None:
    """Removes a checkpoint and the one before."""
    remove(folder)
    remove(_previous(folder))


def _without_tensors(state: Any, tensors: dict[str, Tensor]) -> Any:
    """`state` with the name of each tensor in its place; the tensors themselves are added to `tensors`."""
    if isinstance(state, Tensor):
        name = str(len(tensors))
        tensors[name] = state.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(state, Mapping):
        return {key: _without_tensors(value, tensors) for key, value in state.items()}
    return [_without_tensors(value, tensors) for value in state] if isinstance(state, list | tuple) else state


def _with_tensors(state: Any, tensors: Mapping[str, Tensor]) -> Any:
    """`state` with each tensor in place of its name."""
    if isinstance(state, dict):
        if _TENSOR in state:
            return tensors[state[_TENSOR]]
        return {key: _with_tensors(value, tensors) for key, value in state.items()}
    return [_with_tensors(value, tensors) for value in state] if isinstance(state, list) else state


def _previous(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.previous")


def _intact(folder: Path, names: Sequence[str] = (_TENSORS, _STATE)) -> bool:
    try:
        sums = json.loads((folder / _SUMS).read_text(encoding="utf-8"))
        return all(checksum(folder / name) == sums[name] for name in names)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
