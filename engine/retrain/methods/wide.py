"""Train LoRA of rank k on four fifths of the rows, cut it by what the other fifth says, and train
on with all rows."""

import logging
import time
from dataclasses import dataclass, replace
from typing import Any

from peft import PeftModel

from autolora.configs.training import LoraWide
from autolora.engine.measure.bases import even_ranks, parameters_of, uneven_ranks
from autolora.engine.measure.lora import Lora
from autolora.engine.measure.measure import Plan, measure
from autolora.engine.measure.passes import Passes
from autolora.engine.retrain.fit import begin, fit
from autolora.engine.retrain.methods.lora import PlainLora, cut_to, wide_lora
from autolora.engine.retrain.prepared import Prepared, Training
from autolora.engine.world import Nowhere, World
from autolora.problems.models.load import BaseModel
from autolora.problems.rows import Rows

log = logging.getLogger("autolora")

HELD_OUT = 0.2
"""The part of the rows on which the cut is chosen."""
MOST_ROWS = 2000
"""If that part has more rows, so many of them are drawn."""


@dataclass(frozen=True)
class WideLora:
    """The cut LoRA, to be trained for `extra_steps`, after a training at rank k.

    That training resumes from checkpoints of its own. `batch`: rows at a time where no gradient is
    taken. `split_seed` and `by_input`: how the rows are split.
    """

    lora: LoraWide
    form: PlainLora
    extra_steps: int
    batch: int
    split_seed: int
    by_input: bool

    def prepare(self, base: BaseModel, training: Training, world: World) -> Prepared:
        """See Method."""
        began = time.perf_counter()
        trained_on, held_out = training.rows.split(
            HELD_OUT, self.split_seed, by_input=self.by_input
        )
        first = replace(training, rows=trained_on)
        wide = wide_lora(self.lora, self.form, base, first)
        begin(wide, first, world)
        work = None if world.work is None else world.work / "wide-checkpoints"
        trained, _ = fit(wide, first, replace(world, work=work, tracker=Nowhere()))
        model: Any = trained.model
        rows = held_out.drawn(MOST_ROWS, training.seed)
        cut = self._cut(model, rows, training, world)
        return replace(cut, max_steps=self.extra_steps, seconds=time.perf_counter() - began)

    def _cut(self, model: PeftModel, rows: Rows, training: Training, world: World) -> Prepared:
        """The model cut to the ranks that these rows choose: uneven within the budget, else as
        `keep` says."""
        wide = Lora(model)
        passes = Passes.of(rows, training.scoring, world, self.batch)
        plan = Plan(batch=training.settings.batch_size)
        measured = measure(wide, passes, plan, progress=world.progress)
        bases = measured.moments.bases(wide)
        lora = self.lora
        if lora.budget is None:
            ranks = even_ranks(wide.ranks, measured.evidence.keeping(lora.keep) or wide.k)
        else:
            limit = parameters_of(lora.budget, wide.sizes)
            ranks = uneven_ranks([basis.size for basis in bases], wide.sizes, limit)
        log.info("wide: of %d rows, cut to ranks %s", len(rows), ranks)
        return cut_to(wide, bases, ranks, lora.k, self.form, training)
