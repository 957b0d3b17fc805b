"""Train LoRA of rank k on four fifths of the rows, cut it by what the other fifth says, and train on with all rows.

What users of PEFT have today is the basis `energy` (peft.convert_to_lora): it reads neither rows nor loss.
"""

import logging
import time
from dataclasses import replace
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from autolora.configs import schema
from autolora.configs.layers import with_values
from autolora.engine.cut.basis import Bases, Gated, even_ranks, parameters_of, uneven_ranks
from autolora.engine.measure.likelihood import Rows, likelihood_of
from autolora.engine.measure.measure import Measured, Passes, Plan, measure
from autolora.engine.retrain.fit import begin, fit, halves_of
from autolora.engine.retrain.methods.lora import cut_to, wide_lora
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.problems.models.load import BaseModel

log = logging.getLogger("autolora")

HELD_OUT, MOST_ROWS = 0.2, 2000
"""The part of the rows on which the cut is chosen; of more rows so many are drawn."""


def prepare(base: BaseModel, run: Context) -> Prepared:
    """The cut LoRA, to be trained for `retrain.extra_steps`, and the seconds of the training before and of the cut.

    That training resumes from checkpoints of its own."""
    config, began = run.config, time.perf_counter()
    assert isinstance(config, schema.Wide)
    data = halves_of(run.under(with_values(config, {"task.validation_share": HELD_OUT})))
    (held_out,) = data.evaluation.values()
    wide = wide_lora(base, run)
    begin(run, wide, data, "retrain", "evaluate")
    trained, _ = fit(run, wide, data, run.folder.retrain / "wide-checkpoints")
    model: Any = trained.model
    cut = _cut(model, run, Rows.drawn(held_out, data.collate, range(len(held_out)), MOST_ROWS, config.seed))
    return replace(cut, max_steps=config.retrain.extra_steps, seconds=time.perf_counter() - began)


def _cut(model: PeftModel, run: Context, rows: Rows) -> Prepared:
    """The model cut to the ranks that these rows choose."""
    gated = Gated(model)
    passes = Passes(
        rows, likelihood_of(run.task), run.compute, check=run.stop.check, processes=run.processes,
        batch=run.config.evaluation_batch,
    )  # fmt: skip
    found = measure(gated, passes, Plan(batch=run.config.retrain.batch_size))
    gated.remove()
    bases, ranks = chosen(gated, found, run.adapted.lora)
    log.info("wide: of %d rows, cut to ranks %s", len(rows), ranks)
    named = dict(zip(gated.names, bases, strict=True))
    return cut_to(model, named, dict(zip(named, ranks, strict=True)), run)


def chosen(gated: Gated, found: Measured, lora: Any) -> tuple[Bases, list[int]]:
    """The basis and the rank of each layer: uneven ranks within `lora.budget`, else what `lora.keep` says.

    Of `energy`, keep is the part of the squared singular values of each layer; of the other bases, the part of LoRA's
    gain that one rank in every layer must keep."""
    bases: Bases
    if lora.basis == "balanced":
        bases, curve = found.moments.bases(gated), found.evidence.rank_curve
    else:
        bases, curve = gated.plain(), found.evidence.plain_curve
    if lora.budget is not None:
        sizes = [basis.size for basis in bases]
        return bases, uneven_ranks(sizes, gated.sizes, parameters_of(lora.budget, gated.sizes))
    if lora.basis == "energy":
        return bases, [_of_energy(basis.size, lora.keep) for basis in bases]
    rank = replace(found.evidence, rank_curve=curve).keeping(lora.keep)
    return bases, even_ranks(gated.ranks, rank or gated.k)


def _of_energy(size: Tensor, part: float) -> int:
    """The smallest rank whose squared singular values are this part of all; as peft.convert_to_lora."""
    energy = size.square().cumsum(0)
    return int(torch.searchsorted(energy, part * energy[-1])) + 1
