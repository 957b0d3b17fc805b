"""Atomic, checksummed checkpoints: a folder with tensors (safetensors) and the rest (JSON). No pickle.

`save` writes the new checkpoint to a hidden folder, syncs it, renames the current one to <name>.previous, and then
renames the new one to <name>. At every moment one complete checkpoint exists.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from autolora.engine.disk.files import remove, sync
from autolora.engine.disk.newest import STATE, SUMS, TENSORS, candidates, checksum, half_written, intact, previous

log = logging.getLogger("autolora")

_TENSOR = "tensor:"


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint at `folder`. `state` nests mappings, lists, tensors and values that JSON can hold."""
    fresh = half_written(folder)
    remove(fresh)
    fresh.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    (fresh / STATE).write_text(json.dumps(_without_tensors(state, tensors)), encoding="utf-8")
    save_file(tensors, fresh / TENSORS)
    sums = {name: checksum(fresh / name) for name in (TENSORS, STATE)}
    (fresh / SUMS).write_text(json.dumps(sums), encoding="utf-8")
    for name in (TENSORS, STATE, SUMS):
        sync(fresh / name)
    # A damaged newest checkpoint must not replace the good one before it.
    if folder.exists() and intact(folder):
        remove(previous(folder))
        os.replace(folder, previous(folder))
    else:
        remove(folder)
    os.replace(fresh, folder)
    sync(folder.parent)


def load(folder: Path) -> dict[str, Any] | None:
    """The state in the newest intact checkpoint at `folder`, with tuples as lists; None when there is none.

    Logs a warning when the newest checkpoint is damaged, and then loads the previous one.
    """
    for candidate in candidates(folder):
        if not candidate.exists():
            continue
        if intact(candidate):
            state = json.loads((candidate / STATE).read_text(encoding="utf-8"))
            found: dict[str, Any] = _with_tensors(state, load_file(candidate / TENSORS))
            return found
        log.warning("checkpoint %s is damaged; trying the one before", candidate)
    return None


def _without_tensors(state: Any, tensors: dict[str, Tensor]) -> Any:
    """`state` with each tensor replaced by its name; the tensors themselves are added to `tensors`."""
    if isinstance(state, Tensor):
        name = str(len(tensors))
        tensors[name] = state.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(state, Mapping):
        return {key: _without_tensors(value, tensors) for key, value in state.items()}
    return [_without_tensors(value, tensors) for value in state] if isinstance(state, list | tuple) else state


def _with_tensors(state: Any, tensors: Mapping[str, Tensor]) -> Any:
    """`state` with each tensor's name replaced by the tensor."""
    if isinstance(state, dict):
        if _TENSOR in state:
            return tensors[state[_TENSOR]]
        return {key: _with_tensors(value, tensors) for key, value in state.items()}
    return [_with_tensors(value, tensors) for value in state] if isinstance(state, list) else state
