"""Which keys change the result of a retraining; refuse to resume one after such a key has changed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from autolora.configs.section import COST
from autolora.engine.retrain import checkpoint
from autolora.engine.run.asked import Asked
from autolora.engine.run.contents import read_result, read_searched, read_trials_file
from autolora.engine.run.resuming import Settings

_READ = (
    "method", "seed", "precision", "device", "model", "task", "lora", "adapter", "search", "hypergradient",
    "answer", "retrain",
)  # fmt: skip
# These keys choose the ranks and are read before the retraining alone.
_CHOOSES = ("answer", "lora.grid", "lora.trials")

RETRAINING = Settings(_READ, ("answer.from",))
"""Compared before a training resumes; task.metrics may change, as metrics are computed after the last step."""
CHOOSING = Settings(_READ, ("answer.from",), also=("task.metrics",))
"""Compared before a sweep or grid resumes; task.metrics may not change, as the first metric ranks the trials."""
FINISHED = Settings(_READ, marks=(COST,))
"""Compared before a study keeps a finished cell: all keys that training, evaluation and decoding read."""
_WEIGHTS = Settings(("model.name", "model.revision", "lora.k", "lora.lora_alpha"))
"""Compared before --retrain.init search: the searched weights fit only a run with the same values of these keys."""


def _read_by(asked: Asked, settings: Settings) -> Settings:
    """`settings` without the keys that the stage does not read: --stage retrain takes the ranks as they are, however
    they were searched and chosen."""
    if asked.stage != "retrain":
        return settings
    searched = () if asked.config.retrain.start == "search" else ("search", "hypergradient")
    return dataclasses.replace(settings, but=(*settings.but, *_CHOOSES, *searched))


def refuse_changed_retraining(asked: Asked) -> None:
    """Refuses to resume a training, a sweep or a grid under a setting that would change its result; also to draw the
    report that a finished run lacks under settings with which it was not made."""
    folder, config = asked.folder, asked.config
    if asked.stage == "report":
        return
    if folder.metrics.exists():
        if asked.stage != "search" and not folder.report.exists():
            finished = _settings(read_result(folder.metrics))
            way_out = "give the old value, --name for another run, or --overwrite to start again"
            FINISHED.refuse_changed(
                finished, config, f"{folder.root} lacks only its report, and was made with", way_out
            )
        return
    what = f"{folder.root} holds a half-done run with"
    if folder.grid.exists() and not folder.ranks.exists():
        CHOOSING.refuse_changed(_settings(read_trials_file(folder.grid)), config, what)
    elif folder.grid.exists() and asked.stage == "all":
        way_out = "give the old value, use --stage retrain to train at those ranks, or --overwrite to start again"
        what_chosen = f"{folder.root} holds ranks that were chosen with"
        RETRAINING.refuse_changed(_settings(read_trials_file(folder.grid)), config, what_chosen, way_out)
    if folder.sweep.exists():
        unfinished = CHOOSING if "chosen" not in read_trials_file(folder.sweep) else RETRAINING
        _read_by(asked, unfinished).refuse_changed(_settings(read_trials_file(folder.sweep)), config, what)
    if folder.retrain.exists():
        _read_by(asked, RETRAINING).refuse_changed(checkpoint.peek(folder.retrain).get("settings", {}), config, what)


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the content of a run's JSON file holds; empty if it holds none."""
    found: dict[str, Any] = content.get("settings", {})
    return found


def refuse_other_weights(asked: Asked) -> None:
    """Refuses --retrain.init search with weights that were searched at another scale or in another base model."""
    folder = asked.folder
    starts = asked.stage == "retrain" and asked.config.retrain.start == "search" and not folder.metrics.exists()
    if starts and folder.search_summary.exists():
        _WEIGHTS.refuse_changed(
            _settings(read_searched(folder.search_summary)),
            asked.config,
            f"{folder.root} holds weights that were searched with",
            "give the old value, use --retrain.init scratch, or --stage search --overwrite to search again",
        )
