"""Checkpoints of the retraining: the folders that transformers.Trainer writes, sealed with checksums.

Trainer writes directly into the final folder, so that after a kill the newest checkpoint may be half-written. The seal
is written last and marks a checkpoint as complete.
"""

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolora.engine.disk.files import remove, sync, write_json
from autolora.engine.disk.newest import checksum

log = logging.getLogger("autolora")

_SEAL, _STATE = "sealed.json", "trainer_state.json"


@dataclass(frozen=True)
class Sealed:
    """A complete checkpoint: `step` of `max_steps` optimiser steps done in `seconds` of training."""

    folder: Path
    step: int
    max_steps: int
    seconds: float


def place(folder: Path, step: int) -> Path:
    """Where Trainer writes the checkpoint of a step."""
    return folder / f"checkpoint-{step}"


def seal(checkpoint: Path, seconds: float, begun: Mapping[str, Any]) -> None:
    """Flushes a checkpoint to the disk, then marks it as complete. `begun`: the settings, the fingerprint of the data
    and the ranks, which a command that resumes the training must share."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != _SEAL)
    for path in files:
        sync(path)
    sums = {str(path.relative_to(checkpoint)): checksum(path) for path in files}
    write_json(checkpoint / _SEAL, {"seconds": seconds, **begun, "files": sums})
    sync(checkpoint)


def newest(folder: Path) -> Sealed | None:
    """The newest intact checkpoint, or None.

    Removes half-written and damaged ones, and warns of each damaged one that is newer than the one returned.
    """
    found = None
    # Checks all checkpoints: Trainer counts them to decide which to delete, and could delete an intact one to keep a
    # damaged one.
    for step in _steps(folder):
        candidate = place(folder, step)
        sealed = _read(candidate)
        if sealed is None:
            if (candidate / _SEAL).exists() and found is None:
                log.warning("checkpoint %s is damaged; trying the one before", candidate)
            remove(candidate)
        found = found or sealed
    return found


def peek(folder: Path) -> dict[str, Any]:
    """The content of the newest seal in `folder`; does not check its checksums. Empty if no checkpoint is complete."""
    for step in _steps(folder):
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads((place(folder, step) / _SEAL).read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return found
    return {}


def newest_step(folder: Path) -> int | None:
    """The step of the newest complete checkpoint in `folder`; does not check its checksums. None if there is none."""
    return next((step for step in _steps(folder) if (place(folder, step) / _SEAL).exists()), None)


def _steps(folder: Path) -> list[int]:
    """The steps of all checkpoints, the newest first."""
    names = (re.fullmatch(r"checkpoint-(\d+)", path.name) for path in folder.glob("checkpoint-*"))
    return sorted((int(name[1]) for name in names if name), reverse=True)


def _read(checkpoint: Path) -> Sealed | None:
    try:
        content = json.loads((checkpoint / _SEAL).read_text(encoding="utf-8"))
        if any(checksum(checkpoint / name) != value for name, value in content["files"].items()):
            return None
        state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        return Sealed(checkpoint, state["global_step"], state["max_steps"], float(content["seconds"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
