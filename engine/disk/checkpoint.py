"""A checkpoint: one file that torch writes, and reads without running any code that a file may
hold.

The file is written beside and renamed, so that at every moment it is the old checkpoint or the new
one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from autolora.configs.errors import UserError
from autolora.engine.disk.files import replacing


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint. `state` nests dicts, lists, tuples, tensors, numbers and texts."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load(path: Path) -> dict[str, Any] | None:
    """The state, its tensors on the CPU; None if there is no checkpoint. Raises UserError for a
    damaged one."""
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises the errors of zip, pickle and C++
        raise UserError(
            f"{path} is damaged ({error}); remove it to begin this stage again"
        ) from error
    return found
