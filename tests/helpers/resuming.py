"""Folders with half-done work in them, and the question whether it may resume."""

from contextlib import suppress

import torch

from autolora.configs.schema import RunConfig, Stage
from autolora.engine.disk import checkpoint
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.retrain import checkpoint as retrain_checkpoint
from autolora.engine.retrain.settings import CHOOSING, RETRAINING, refuse_changed_retraining, refuse_other_weights
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.opening import opened
from autolora.engine.search.settings import FOUND, UNFINISHED, refuse_changed_search


def ask(config: RunConfig, stage: Stage = "all", *, overwrite: bool = False) -> None:
    """Raises UserError when what stands in the run's folder was made under other settings."""
    asked = Asked(config, RunFolder.of(config), stage, overwrite)
    resuming = (refuse_changed_search, refuse_changed_retraining, refuse_other_weights)
    with suppress(_AllAsked), opened(asked, (), resuming):
        raise _AllAsked


class _AllAsked(Exception):
    """Raised where the run would begin, as no check has refused; it ends `opened` without a run."""


def half_search(config: RunConfig) -> None:
    """A search with one checkpoint."""
    folder = RunFolder.of(config)
    checkpoint.save(folder.search_checkpoint, {"x": torch.ones(1), "settings": UNFINISHED.of(config)})


def searched(config: RunConfig) -> None:
    """A finished search, whose retraining has not begun."""
    folder = RunFolder.of(config)
    write_json(folder.search_summary, {"parameters_per_rank": {}, "settings": FOUND.of(config)})
    write_text(folder.ranks, "{}")


def half_retrain(config: RunConfig) -> None:
    """A retraining with one checkpoint."""
    folder = RunFolder.of(config)
    write_text(folder.ranks, "{}")
    place = retrain_checkpoint.place(folder.retrain, 2)
    place.mkdir(parents=True)
    retrain_checkpoint.seal(place, 1.0, {"settings": RETRAINING.of(config)})


def half_sweep(config: RunConfig) -> None:
    """A sweep of learning rates without a choice."""
    write_json(RunFolder.of(config).sweep, {"trials": [], "settings": CHOOSING.of(config)})


def swept(config: RunConfig) -> None:
    """A sweep that has chosen; the training at its rate has not begun."""
    folder = RunFolder.of(config)
    write_text(folder.ranks, "{}")
    write_json(folder.sweep, {"chosen": {}, "trials": [], "settings": CHOOSING.of(config)})


def half_grid(config: RunConfig) -> None:
    """A grid of ranks without a choice."""
    write_json(RunFolder.of(config).grid, {"trials": [], "settings": CHOOSING.of(config)})
