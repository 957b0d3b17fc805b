"""Refuse to resume a half-done retraining, or a sweep of its learning rates, at other ranks than it began with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.engine.ranks import RankRecord
from autolora.engine.retrain import checkpoint
from autolora.engine.run.contents import read_trials_file
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.resuming import Outdated


def what_counts(record: RankRecord | None) -> dict[str, Any] | None:
    """The part of a record that decides which model is trained, as checkpoints store it; None without a record."""
    return None if record is None else {"k": record.k, **record.kept}


def refuse_changed_ranks(record: RankRecord, blame: Path, folder: RunFolder) -> None:
    """Raises Outdated, which names `blame` (the source of the ranks), when work in `folder` began with other ranks."""
    sweep = read_trials_file(folder.sweep)
    half_done = "" if "chosen" in sweep else "half-done "
    for work, recorded in (
        (f"the half-done retraining in {folder.root}", checkpoint.peek(folder.retrain).get("ranks")),
        (f"the {half_done}sweep of learning rates in {folder.sweep}", sweep.get("ranks")),
    ):
        change = recorded and _changed(recorded, what_counts(record) or {})
        if change:
            raise Outdated(
                f"{blame}: these are not the ranks that {work} began with: {change}; bring the old ranks back to "
                f"resume, use --stage retrain --overwrite to train at these, or --name for another run"
            )


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first layer whose rank changed (or k), with both values; None if none did. A missing layer has rank 0."""
    for name in {**now, **then}:
        before, after = then.get(name, 0), now.get(name, 0)
        if before != after:
            return f"{name} ({before} then, {after} now)"
    return None
