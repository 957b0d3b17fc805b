"""Whether an unfinished run may go on under the configuration at hand."""

from __future__ import annotations

import dataclasses
from functools import reduce

import yaml

from configs.errors import UserError
from configs.keys import known_keys
from configs.schema import RunConfig
from engine import checkpoint
from engine.run_folder import RunFolder

# Changing these does not change what the search computes.
_HARMLESS = {"name", "runs_folder", "search.checkpoint_every", "search.max_bad_steps"}
# Nor the training.
_EVALUATION_ONLY = {"task.evaluation_split", "task.evaluation_rows", "task.metrics"}
_HARMLESS_SECTIONS = {"retrain", "export", "tracking", "decode"}
# A half-done retraining may change even less.
_RETRAIN_HARMLESS = {"retrain.checkpoint_every", "retrain.eval_batch_size"}


def refuse_other_config(config: RunConfig, folder: RunFolder) -> None:
    """Raises UserError, naming the key, when a half-done stage would go on under a changed setting."""
    half_searched = checkpoint.exists(folder.search_checkpoint) and not folder.ranks.exists()
    half_retrained = folder.retrain.exists() or folder.trials.exists()
    if not folder.config.exists() or not (half_searched or half_retrained):
        return
    before = yaml.safe_load(folder.config.read_text(encoding="utf-8")) or {}
    now = dataclasses.asdict(config)
    for key in known_keys():
        section = key.split(".")[0]
        free = key in _HARMLESS | _EVALUATION_ONLY or section in _HARMLESS_SECTIONS
        if half_retrained and section == "retrain" and key not in _RETRAIN_HARMLESS:
            free = False
        if free:
            continue
        old, new = (reduce(lambda tree, part: (tree or {}).get(part), key.split("."), tree) for tree in (before, now))
        if old != new:
            raise UserError(
                f"--{key}: {folder.root} holds a half-done run with {old!r}, now it is {new!r}; "
                f"give the old value to go on, or --overwrite to start again"
            )
