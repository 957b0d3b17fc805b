"""The beginning of a training: the last checks, then the first files."""

from autolora.configs.facts import trains_blocks
from autolora.engine import ranks
from autolora.engine.retrain.methods.base import Prepared
from autolora.engine.run.context import Context
from autolora.engine.run.memory import check_memory
from autolora.engine.run.savings import FIRST_ORDER
from autolora.problems.data import Data
from autolora.problems.models.recompute import recompute_blocks


def begin(run: Context, prepared: Prepared, data: Data) -> None:
    """Checks that the memory is enough, lets the model recompute its blocks if the run asks for it, then writes
    config.yaml and, if ranks or scale are new, ranks.json.

    From then on the folder counts as begun, and with --overwrite half-done results that were set aside for this run
    are removed in the end: whatever can refuse the training must come before. Raises UserError if the training needs
    more memory than is free, or if the model has no blocks that can be recomputed.
    """
    if any(parameter.requires_grad for parameter in prepared.model.parameters()):
        batch = run.config.retrain.batch_size
        check_memory(run, prepared.model, data, batch, per_weight=FIRST_ORDER, section="retrain")
    if run.config.model.gradient_checkpointing and trains_blocks(run.config):
        recompute_blocks(prepared.model)
    run.begin()
    if prepared.record and run.processes.first:
        if prepared.new_ranks:
            ranks.save(prepared.record, run.folder.ranks)
        else:
            _update_scale(run)


def _update_scale(run: Context) -> None:
    """Writes this run's scale into the ranks of a search, which may have been made with another retrain.scale."""
    path = run.folder.ranks
    if path.exists() and (kept := ranks.load(path)).lora_alpha is not None:
        now = ranks.of_run(kept, run.config)
        if now != kept:
            ranks.save(now, path)
