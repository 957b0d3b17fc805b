"""The beginning of a training: the last checks, then the first files."""

from functools import partial
from typing import Any

from autolora.configs.schema import WithLora
from autolora.engine import ranks
from autolora.engine.retrain.methods.base import Prepared
from autolora.engine.run.context import Context
from autolora.engine.run.trial_batch import try_longest_batch
from autolora.problems.data import Data
from autolora.problems.models.recompute import recompute_blocks
from autolora.problems.tasks.kind import own_loss


def begin(run: Context, prepared: Prepared, data: Data) -> None:
    """Lets the model recompute its blocks if the run asks for it, tries the longest batch, then writes config.yaml
    and, if ranks or scale are new, ranks.json.

    From then on the folder counts as begun, and with --overwrite half-done results that were set aside for this run
    are removed in the end: whatever can refuse the training must come before. Raises UserError if the model has no
    blocks that can be recomputed.
    """
    model: Any = prepared.model
    if run.config.model.gradient_checkpointing and run.config.trains_blocks:
        recompute_blocks(model)
    if any(parameter.requires_grad for parameter in model.parameters()):
        model.to(run.compute.device)
        model.train()
        try_longest_batch(run, model, data.train, run.config.retrain.batch_size, partial(own_loss, model))
    run.begin()
    if prepared.record and run.processes.first:
        if prepared.new_ranks:
            ranks.save(prepared.record, run.folder.ranks)
        else:
            _update_scale(run)


def _update_scale(run: Context) -> None:
    """Writes this run's scale into the ranks of a search, which may have been made with another retrain.scale."""
    path = run.folder.ranks
    if path.exists() and isinstance(run.config, WithLora) and (kept := ranks.load(path)).lora_alpha is not None:
        now = ranks.of_run(kept, run.config)
        if now != kept:
            ranks.save(now, path)
