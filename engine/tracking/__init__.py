"""Curves while a run goes: wandb and metrics.jsonl. `open_tracker` is where a tracker is chosen."""

from collections.abc import Sequence
from pathlib import Path

from configs.schema import RunConfig
from engine.tracking.tracker import NOWHERE, Tracker
from engine.tracking.wandb_run import Wandb

__all__ = ["NOWHERE", "Tracker", "open_tracker"]


def open_tracker(config: RunConfig, folder: Path, *, job: str, tags: Sequence[str]) -> Tracker:
    """Where the curves of the run in `folder` go; `job` and `tags` are what runs can be grouped and filtered by.

    Raises UserError for what the user must change.
    """
    return Wandb(config, folder, job=job, tags=tags)
