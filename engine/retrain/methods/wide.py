"""Train LoRA of rank k on four fifths of the rows, cut it by what the other fifth says, and train
on with all rows."""

import logging
import time
from dataclasses import replace
from typing import Any

from peft import PeftModel

from autolora.configs import schema
from autolora.configs.layers import with_values
from autolora.engine.choose.measurement import passes_over, with_bar
from autolora.engine.cut.basis import Gated, even_ranks, parameters_of, uneven_ranks
from autolora.engine.measure.measure import Plan
from autolora.engine.retrain.fit import begin, fit, search_splits
from autolora.engine.retrain.methods.lora import cut_to, wide_lora
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.problems.models.load import BaseModel
from autolora.problems.rows import Rows

log = logging.getLogger("autolora")

HELD_OUT = 0.2
"""The part of the rows on which the cut is chosen."""
MOST_ROWS = 2000
"""If that part has more rows, so many of them are drawn."""


def prepare(base: BaseModel, run: Context) -> Prepared:
    """The cut LoRA, to be trained for `retrain.extra_steps`, and the seconds of the training before
    and of the cut.

    That training resumes from checkpoints of its own."""
    config = run.config
    began = time.perf_counter()
    assert isinstance(config, schema.Wide)
    data = search_splits(run.under(with_values(config, {"task.validation_share": HELD_OUT})))
    (held_out,) = data.evaluation.values()
    wide = wide_lora(base, run)
    begin(run, wide, data, "retrain", "evaluate")
    trained, _ = fit(run, wide, data, run.folder.retrain / "wide-checkpoints")
    model: Any = trained.model
    cut = _cut(model, run, held_out.drawn(MOST_ROWS, config.seed))
    return replace(cut, max_steps=config.retrain.extra_steps, seconds=time.perf_counter() - began)


def _cut(model: PeftModel, run: Context, rows: Rows) -> Prepared:
    """The model cut to the ranks that these rows choose: uneven within `lora.budget`, else as
    `lora.keep` says."""
    gated = Gated(model)
    found = with_bar(gated, passes_over(run, rows), Plan(batch=run.config.retrain.batch_size))
    gated.remove()
    bases = found.moments.bases(gated)
    lora = run.adapted.lora
    if lora.budget is None:
        ranks = even_ranks(gated.ranks, found.evidence.keeping(lora.keep) or gated.k)
    else:
        ranks = uneven_ranks(
            [basis.size for basis in bases], gated.sizes, parameters_of(lora.budget, gated.sizes)
        )
    log.info("wide: of %d rows, cut to ranks %s", len(rows), ranks)
    named = dict(zip(gated.names, bases, strict=True))
    return cut_to(model, named, dict(zip(named, ranks, strict=True)), run)
