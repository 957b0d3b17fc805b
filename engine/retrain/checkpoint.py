"""Checkpoints of the retraining: the folders that transformers.Trainer writes, each with a seal.

Trainer writes directly into the final folder, so that after a kill the newest checkpoint may be half-written. The seal
is written last and marks a checkpoint as complete.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolora.engine.disk.files import read_json, remove, sync, write_json

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


def seal(checkpoint: Path, seconds: float) -> None:
    """Flushes a checkpoint to the disk, then marks it as complete."""
    for path in checkpoint.rglob("*"):
        if path.is_file():
            sync(path)
    write_json(checkpoint / _SEAL, {"seconds": seconds})
    sync(checkpoint)


def newest(folder: Path) -> Sealed | None:
    """The newest complete checkpoint, or None. Removes those that are half-written, as Trainer counts them, too."""
    for step in _steps(folder):
        if not (place(folder, step) / _SEAL).exists():
            remove(place(folder, step))
    last = newest_step(folder)
    if last is None:
        return None
    checkpoint = place(folder, last)
    state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    return Sealed(checkpoint, state["global_step"], state["max_steps"], float(peek(folder)["seconds"]))


def peek(folder: Path) -> dict[str, Any]:
    """The content of the newest seal in `folder`; empty if no checkpoint is complete."""
    step = newest_step(folder)
    return {} if step is None else read_json(place(folder, step) / _SEAL)


def newest_step(folder: Path) -> int | None:
    """The step of the newest complete checkpoint in `folder`; None if there is none."""
    return next((step for step in _steps(folder) if (place(folder, step) / _SEAL).exists()), None)


def _steps(folder: Path) -> list[int]:
    """The steps of all checkpoints, the newest first."""
    names = (re.fullmatch(r"checkpoint-(\d+)", path.name) for path in folder.glob("checkpoint-*"))
    return sorted((int(name[1]) for name in names if name), reverse=True)
