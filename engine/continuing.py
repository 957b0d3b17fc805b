"""Whether an unfinished run may go on under the configuration at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from configs.errors import UserError
from configs.keys import known_keys
from configs.schema import RunConfig, Stage
from engine import checkpoint
from engine.run_folder import RunFolder

# Changing these does not change what the search computes.
_HARMLESS = {"name", "runs_folder", "search.checkpoint_every", "search.max_bad_steps"}
# Nor the training; but a choice on D_val that is half made goes by the first metric.
_EVALUATION_ONLY = {"task.evaluation_rows", "task.metrics"}
_HARMLESS_SECTIONS = {"retrain", "export", "tracking", "decode", "study"}
# A half-done retraining may change even less.
_RETRAIN_HARMLESS = {"retrain.checkpoint_every", "retrain.eval_batch_size", "retrain.torch_compile"}
# What a search does not read.
_NOT_IN_RANKS = {"device", "lora.r", "lora.grid", "lora.ranks_from", "adapter.bottleneck"}
# Beside these, a finished run with other settings is another run.
_NOT_IN_RESULTS = _HARMLESS - {"search.max_bad_steps"} | _RETRAIN_HARMLESS
# What a run did before the key came, where that is not what its default does now.
_BEFORE_THE_KEY: dict[str, Any] = {"lora.modules_to_save": []}
# What the comparison of hypergradients does not read.
_NOT_IN_PROBE = {"retrain", "export", "tracking", "decode", "adapter"}


def refuse_other_config(config: RunConfig, folder: RunFolder, stage: Stage = "all") -> None:
    """Raises UserError, naming the key, when a half-done stage would go on under a changed setting, or when stage all
    would retrain the ranks of another search than the one it asks for."""
    half_searched = checkpoint.exists(folder.search_checkpoint) and not folder.ranks.exists()
    choosing = folder.trials.exists() or (folder.grid.exists() and not folder.ranks.exists())
    chosen = folder.sweep.exists() and not folder.metrics.exists()
    half_retrained = folder.retrain.exists() or choosing or chosen
    if not (half_searched or half_retrained):
        _refuse_other_search(config, folder, stage)
        return

    def free(key: str) -> bool:
        section = key.split(".")[0]
        if half_retrained and section == "retrain":
            return key in _RETRAIN_HARMLESS
        # In a user's table it decides which rows are held out of the training.
        if key == "task.evaluation_split":
            return config.task.type == "glue"
        if key in _EVALUATION_ONLY:
            return not (choosing and key == "task.metrics")
        return key in _HARMLESS or section in _HARMLESS_SECTIONS

    _refuse(folder.config, config, free, f"{folder.root} holds a half-done run with")


def _refuse_other_search(config: RunConfig, folder: RunFolder, stage: Stage) -> None:
    """Stage all retrains ranks that are there only under the settings that chose them; stage retrain takes any."""
    found = folder.ranks.exists() and (folder.search_summary.exists() or folder.grid.exists())
    if stage != "all" or folder.metrics.exists() or not found:
        return

    def free(key: str) -> bool:
        section = key.split(".")[0]
        if key == "task.evaluation_split":
            return config.task.type == "glue"
        if section == "retrain" and config.method == "lora_grid":
            return key in _RETRAIN_HARMLESS
        unread = key in _NOT_IN_RANKS and config.method != "lora_grid"
        return unread or key in _HARMLESS | _EVALUATION_ONLY or section in _HARMLESS_SECTIONS

    path = folder.search_config if folder.search_config.exists() else folder.config
    way_out = "give the old value, --stage retrain to take those ranks as they are, --name for another run, or "
    _refuse(path, config, free, f"{folder.root} holds ranks that were chosen with", way_out)


def refuse_other_results(config: RunConfig, folder: RunFolder) -> None:
    """Raises UserError, naming the key, when a finished run was made under other settings than these."""
    _refuse(
        folder.config,
        config,
        lambda key: key in _NOT_IN_RESULTS or key.split(".")[0] in ("export", "tracking", "study"),
        f"{folder.root} was finished with",
    )


def refuse_other_probe(config: RunConfig, path: Path) -> None:
    """The same for a study's comparison of hypergradients; `path`: the study's config.yaml."""

    def free(key: str) -> bool:
        section = key.split(".")[0]
        other = section == "study" and not key.startswith("study.probe.")
        return other or key in _HARMLESS or section in _NOT_IN_PROBE

    _refuse(
        path,
        config,
        free,
        f"{path.parent} holds a comparison of hypergradients with",
    )


def _refuse(
    path: Path, config: RunConfig, free: Callable[[str], bool], what: str,
    way_out: str = "give the old value to go on, --name for another, or ",
) -> None:  # fmt: skip
    """Raises UserError for the first key that is not `free` and differs from the configuration in `path`."""
    if not path.exists():
        return
    before = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    now, default = dataclasses.asdict(config), dataclasses.asdict(RunConfig(name="default"))
    for key in known_keys():
        # A key that an earlier version did not have: nearly always it ran as the default does now.
        old = _value(before, key, _BEFORE_THE_KEY.get(key, _value(default, key)))
        new = _value(now, key)
        if old != new and not free(key):
            raise UserError(f"--{key}: {what} {old!r}, now it is {new!r}; {way_out}--overwrite to start again")


def _value(tree: Mapping[str, Any] | None, key: str, default: Any = None) -> Any:
    """What a dotted key holds in a tree; `default` where it is not there."""
    for part in key.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return default
        tree = tree[part]
    return tree
