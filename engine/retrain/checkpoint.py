"""Checkpoints of a training: the folders checkpoint-STEP that transformers.Trainer writes."""

import json
from pathlib import Path

STATE = "trainer_state.json"
"""Trainer writes it last: after a kill, a checkpoint is whole if this file can be read."""


def place(folder: Path, step: int) -> Path:
    """Where Trainer writes the checkpoint of a step."""
    return folder / f"checkpoint-{step}"


def newest(folder: Path) -> int | None:
    """The step of the newest whole checkpoint in `folder`; None if there is none."""
    steps = (int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*"))
    return next(
        (step for step in sorted(steps, reverse=True) if _is_whole(place(folder, step))), None
    )


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
