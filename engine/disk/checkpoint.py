"""A checkpoint: one safetensors file, with the state that is no tensor as JSON in its metadata. No pickle.

The file is written beside and renamed, so that at every moment it is the old checkpoint or the new one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from autolora.configs.errors import UserError
from autolora.engine.disk.files import replacing

if TYPE_CHECKING:  # it takes seconds to load, and `peek` needs no tensors
    from torch import Tensor

_STATE, _TENSOR = "state", "tensor:"


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint. `state` nests mappings, lists, tensors and values that JSON can hold."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    text = json.dumps(_without_tensors(state, tensors))
    with replacing(path) as temporary:
        save_file(tensors, temporary, {_STATE: text})


def load(path: Path) -> dict[str, Any] | None:
    """The state, with tuples as lists; None if there is no checkpoint. Raises UserError for a damaged one."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            found: dict[str, Any] = _with_tensors(json.loads(file.metadata()[_STATE]), tensors)
            return found
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it to begin this stage again") from error


def peek(path: Path) -> dict[str, Any]:
    """The state without its tensors; empty if there is no checkpoint, or a damaged one, which `load` reports."""
    try:
        with safe_open(path, "np") as file:
            state: dict[str, Any] = json.loads(file.metadata()[_STATE])
            return state
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return {}


def _without_tensors(state: Any, tensors: dict[str, "Tensor"]) -> Any:
    """`state` with each tensor replaced by its name; the tensors themselves are added to `tensors`."""
    if hasattr(state, "detach"):
        name = str(len(tensors))
        tensors[name] = state.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(state, Mapping):
        return {key: _without_tensors(value, tensors) for key, value in state.items()}
    return [_without_tensors(value, tensors) for value in state] if isinstance(state, list | tuple) else state


def _with_tensors(state: Any, tensors: Mapping[str, "Tensor"]) -> Any:
    """`state` with each tensor's name replaced by the tensor."""
    if isinstance(state, dict):
        if _TENSOR in state:
            return tensors[state[_TENSOR]]
        return {key: _with_tensors(value, tensors) for key, value in state.items()}
    return [_with_tensors(value, tensors) for value in state] if isinstance(state, list) else state
