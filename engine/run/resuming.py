"""Whether work that is there may go on, or be taken, under the configuration at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.keys import known_keys
from configs.schema import RunConfig, Stage
from engine.disk import checkpoint
from engine.disk.files import read_yaml
from engine.run.folder import RunFolder

Free = frozenset[str]

# The table: for each piece of work the keys, and the sections with all that is in them, that are free to change.

# Where a run lies, how it is started, saved and watched, what is written beside the adapter: nothing that is computed.
_ALWAYS: Free = frozenset({
    "name", "runs_folder", "strategy", "export", "tracking", "study",
    "search.checkpoint_every", "retrain.checkpoint_every", "retrain.eval_batch_size", "retrain.torch_compile",
})  # fmt: skip
# What comes after the last training step. How the rows are split is none of it.
_MEASURING: Free = frozenset({"task.metrics", "task.evaluation_rows", "decode"})
# What only other methods read.
_OTHER_METHODS: Free = frozenset({"lora.r", "lora.grid", "lora.ranks_from", "adapter"})
# A search reads nothing of the retraining; how many bad steps it may leave out says when to give up, not what to do.
_HALF_SEARCHED = _ALWAYS | _MEASURING | _OTHER_METHODS | {"retrain", "search.max_bad_steps"}
# The optimiser's state belongs to the retraining's own settings, and nobody knows here which others its method reads.
_HALF_RETRAINED = _ALWAYS | _MEASURING | {"search.max_bad_steps"}
# The trials that are there are compared with those to come, by the first metric.
_HALF_CHOSEN = _HALF_RETRAINED - {"task.metrics"}
# Ranks are found on one device as well as on another; a checkpoint's random states are the device's own.
_SEARCHED = _HALF_SEARCHED | {"device"}
# A grid is chosen by trainings, at the retraining's settings.
_CHOSEN = _HALF_RETRAINED
# Searched weights are put into the retraining's model as their gates and their scale in this base model made them.
_IN_THE_GATES: Free = frozenset({
    "model.name", "model.revision", "lora.k", "lora.lora_alpha", "search.constraint", "search.scale",
})  # fmt: skip
# For the rest, stage retrain takes recorded ranks under any settings.
_WITH_SEARCHED_WEIGHTS: Free = frozenset(known_keys()) - _IN_THE_GATES
# Measured and decoded too; only how many texts are written at a time says nothing of them.
_FINISHED = _ALWAYS | {"decode.batch_size"}
# A search, compared at its own steps, etas and rounds: study.probe is not free, the study's cells are.
_PROBED = (_HALF_SEARCHED - {"study"}) | {
    "study.axes", "study.variants", "study.where", "study.sweep_once", "study.launcher", "study.ray",
}  # fmt: skip

# What a run did before the key came, where that is not what its default does now.
_BEFORE_THE_KEY: dict[str, Any] = {"lora.modules_to_save": []}

_GO_ON = "give the old value to go on, --name for another, or --overwrite to start again"


def refuse_other_config(config: RunConfig, folder: RunFolder, stage: Stage = "all") -> None:
    """Raises UserError, naming the key, when a half-done stage would go on under a changed setting, stage all would
    retrain the ranks of another search than the one it asks for, or a retraining would start from weights that were
    searched at another scale."""
    if stage == "report":  # trains nothing
        return
    half_done = _half_done(folder)
    if half_done is not None:
        free = _with_split(half_done, config)
        _refuse(folder.config, config, free, f"{folder.root} holds a half-done run with", _GO_ON)
    if not folder.ranks.exists() or folder.metrics.exists():
        return
    if not folder.search_summary.exists() and not folder.grid.exists():
        return  # ranks written by hand are no search's
    if stage == "all":
        free = _with_split(_CHOSEN if config.method == "lora_grid" else _SEARCHED, config)
        way_out = (
            "give the old value, --stage retrain to take those ranks as they are, --name for another run, or "
            "--overwrite to start again"
        )
        _refuse(_searched_under(folder), config, free, f"{folder.root} holds ranks that were chosen with", way_out)
    elif stage == "retrain":
        refuse_other_weights(config, folder)


def refuse_other_weights(config: RunConfig, folder: RunFolder) -> None:
    """Raises UserError, naming the key, when a retraining would start from weights that were searched at another
    scale."""
    if config.retrain.init != "search" or not folder.search_summary.exists():
        return
    way_out = "give the old value, --retrain.init scratch, or --stage search --overwrite to search again"
    what = f"{folder.root} holds weights that were searched with"
    _refuse(_searched_under(folder), config, _WITH_SEARCHED_WEIGHTS, what, way_out)


def refuse_other_results(config: RunConfig, folder: RunFolder) -> None:
    """Raises UserError, naming the key, when a finished run was made under other settings than these."""
    _refuse(folder.config, config, _FINISHED, f"{folder.root} was finished with", _GO_ON)


def refuse_other_probe(config: RunConfig, path: Path) -> None:
    """The same for a study's comparison of hypergradients; `path`: the study's config.yaml."""
    free = _with_split(_PROBED, config)
    _refuse(path, config, free, f"{path.parent} holds a comparison of hypergradients with", _GO_ON)


def _searched_under(folder: RunFolder) -> Path:
    """The settings of the search: the run's own config.yaml changes with those of a later stage."""
    return folder.search_config if folder.search_config.exists() else folder.config


def _half_done(folder: RunFolder) -> Free | None:
    """What is free for the work that was begun here and not ended; None where there is none."""
    if folder.trials.exists() or (folder.grid.exists() and not folder.ranks.exists()):
        return _HALF_CHOSEN
    if folder.retrain.exists() or (folder.sweep.exists() and not folder.metrics.exists()):
        return _HALF_RETRAINED
    if checkpoint.exists(folder.search_checkpoint) and not folder.ranks.exists():
        return _HALF_SEARCHED
    return None


def _with_split(free: Free, config: RunConfig) -> Free:
    """In a user's table the evaluation split decides which rows are held out of the training; GLUE's are there."""
    return free | {"task.evaluation_split"} if config.task.type == "glue" else free


def _refuse(path: Path, config: RunConfig, free: Free, what: str, way_out: str) -> None:
    """Raises UserError for the first key that is not `free` and differs from the configuration in `path`."""
    if not path.exists():
        return
    before = read_yaml(path)
    now, default = dataclasses.asdict(config), dataclasses.asdict(RunConfig(name="default"))
    for key in known_keys():
        # A key that an earlier version did not have: nearly always it ran as the default does now.
        old = _value(before, key, _BEFORE_THE_KEY.get(key, _value(default, key)))
        new = _value(now, key)
        if old != new and not _is_free(key, free):
            raise UserError(f"--{key}: {what} {old!r}, now it is {new!r}; {way_out}")


def _is_free(key: str, free: Free) -> bool:
    """Whether the key is there, or a section that it lies in."""
    parts = key.split(".")
    return any(".".join(parts[:n]) in free for n in range(1, len(parts) + 1))


def _value(tree: Mapping[str, Any] | None, key: str, default: Any = None) -> Any:
    """What a dotted key holds in a tree; `default` where it is not there."""
    for part in key.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return default
        tree = tree[part]
    return tree
