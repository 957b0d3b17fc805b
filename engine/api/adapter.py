"""What a finished adapter is worth on held-out rows: its gain, its layers, and how small it can be
cut."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, PeftModel
from torch import Tensor

from autolora.configs.errors import UserError
from autolora.configs.measure import LEAST_ROWS
from autolora.engine.api.script import adapted, left_alone, of_batches, of_trainer
from autolora.engine.measure.bases import Basis, even_ranks, uneven_ranks
from autolora.engine.measure.cut import adapter_of, cut_adapter, padded, save_adapter
from autolora.engine.measure.evidence import Evidence
from autolora.engine.measure.lora import Lora
from autolora.engine.measure.measure import NotFinite, Plan, measure
from autolora.engine.measure.moments import Moments
from autolora.engine.measure.passes import Passes
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.report.findings import curve_lines, gain_words, kept_words, share_lines
from autolora.engine.report.measured import curve_table, share_table
from autolora.engine.terminal.bar import Bar
from autolora.engine.terminal.console import heard, log
from autolora.engine.world import World
from autolora.problems.machine.compute import Compute, same_random_numbers
from autolora.problems.rows import Rows

MOST_ROWS = 2000
"""Of more rows so many are drawn."""
KEEP = (0.99, 0.95)
"""The parts of the gain whose smallest rank is told."""


@dataclass(frozen=True)
class MeasuredAdapter:
    """What an adapter is worth on rows. Printed: its gain, what fewer ranks keep of it, its layers,
    and one advice.

    `record`: the content of measure.json, with the adapter's ranks and the evidence. `moments`:
    those of its LoRA."""

    model: PeftModel
    record: RankRecord
    moments: Moments

    @property
    def evidence(self) -> Evidence:
        """The numbers that were measured."""
        assert self.record.evidence is not None
        return self.record.evidence

    @property
    def curve(self) -> pd.DataFrame:
        """What cuts keep (`curve_table`)."""
        return curve_table(self.evidence)

    @property
    def shares(self) -> pd.DataFrame:
        """What each layer is worth (`share_table`)."""
        return share_table(self.record)

    def ranks(
        self,
        *,
        keep: float | None = None,
        rank: int | None = None,
        parameters: int | None = None,
        max_rank: int | None = None,
    ) -> dict[str, int]:
        """Layer -> rank of a cut: the smallest rank of the curve that keeps the part `keep` of the
        gain, `rank` in every layer, or unequal ranks within `parameters`, each at most `max_rank`.

        Raises UserError unless exactly one of the first three is given, and for `keep` if LoRA
        gains nothing."""
        refuse_sizes(keep, rank, parameters, max_rank)
        names = [layer.name for layer in self.record.layers]
        own = [layer.rank for layer in self.record.layers]
        if parameters is not None:
            sizes = [basis.size for basis in self._bases]
            least = self._lora.least
            uneven = uneven_ranks(sizes, self.sizes, parameters, max_rank, least)
            return dict(zip(names, uneven, strict=True))
        if keep is not None:
            rank = self.evidence.keeping(keep)
            if rank is None:
                raise UserError(
                    "cut: keep is not allowed, as LoRA gains nothing that shows on these "
                    "rows; give a rank"
                )
        assert rank is not None
        return dict(zip(names, even_ranks(own, min(rank, max_rank or rank)), strict=True))

    def cut(self, **asked: Any) -> tuple[LoraConfig, dict[str, Tensor]]:
        """The adapter cut to `ranks(**asked)`, in the balanced basis by all rows: a LoraConfig and
        a state dict, as peft.convert_to_lora returns. Raises UserError as `ranks` does."""
        return cut_adapter(self._lora, self._bases, list(self.ranks(**asked).values()))

    def save(self, folder: str | Path, *, pad: bool = False, **asked: Any) -> None:
        """Writes the cut adapter to a folder, from which PeftModel.from_pretrained loads it; `pad`:
        also folder/padded, of one rank in every layer, for servers that need that."""
        config, state = self.cut(**asked)
        save_adapter(config, state, Path(folder))
        if pad:
            save_adapter(*padded(config, state), Path(folder) / "padded")

    @property
    def advice(self) -> str:
        """What to do, a line for each part of the gain that may be kept."""
        evidence = self.evidence
        if not evidence.learned:
            error = evidence.gain_standard_error
            return (
                f"LoRA gains nothing that shows on these rows: {evidence.gain:.3g} +- "
                f"{error:.2g} nats per label"
            )
        return "\n".join(self._advice_to_keep(keep) for keep in KEEP)

    def _advice_to_keep(self, part: float) -> str:
        """The smallest cut of the curve that keeps this part of the gain."""
        wanted = f"to keep {100 * part:.0f} %"
        evidence = self.evidence
        rank = evidence.keeping(part)
        assert rank is not None
        if rank == self.record.k:
            return f"{wanted}: no rank of the curve below {rank} keeps it"
        point = next(point for point in evidence.rank_curve if point.at == rank)
        even = f"rank {rank} everywhere"
        if not evidence.uneven_is_better(rank):
            size = f"{point.parameters:,} parameters"
            return f"{wanted}: {even}, {size}, keeps {kept_words(point)}"
        uneven = next(point for point in evidence.uneven_curve if point.at == rank)
        return (
            f"{wanted}: {uneven.parameters:,} parameters, placed unevenly, keep "
            f"{kept_words(uneven)}, surely more than {even}, which keeps {kept_words(point)}"
        )

    def __str__(self) -> str:
        evidence = self.evidence
        told = self.record.note, evidence.few, gain_words(evidence, "these rows")
        measured = [*curve_lines(self.record), *share_lines(self.record)]
        advice = [f"-> {line}" for line in self.advice.splitlines()]
        return "\n".join(filter(None, [*told, *measured, *advice]))

    @cached_property
    def _lora(self) -> Lora:
        return Lora(self.model, adapter_of(self.model))

    @cached_property
    def _bases(self) -> list[Basis]:
        return self.moments.bases(self._lora)

    @property
    def sizes(self) -> list[int]:
        """The LoRA parameters of one component of each layer."""
        return self._lora.sizes


def measure_adapter(
    model: Any, batches: Iterable[Any] | None = None, *, split: str | None = None
) -> MeasuredAdapter:
    """Measures the LoRA adapter of a model on held-out rows, and leaves the model and the random
    numbers as they were.

    `model`: a PeftModel with `batches` (dicts of tensors with `labels`, padded, with an attention
    mask), or a trainer of transformers or TRL, whose model, eval_dataset and collator are taken;
    of several evaluation sets `split` names one, and without it all are measured together. The
    rows must not be those that the adapter was trained on, which flatter it. The loss is the log
    loss of the labels; of numbers that of a normal error. docs/adapters.md lists the adapters that
    are measured. Raises UserError, one line, for others, and for rows whose log loss is not known.
    """
    if batches is not None and split is not None:
        raise UserError("measure_adapter: split belongs to a trainer with several evaluation sets")
    unwrapped: Any = model.model if batches is None and hasattr(model, "eval_dataset") else model
    peft_model = adapted(unwrapped)
    adapter_of(peft_model)
    device = next(peft_model.parameters()).device
    with heard(), same_random_numbers(device):  # a DataLoader draws a number whenever it begins
        script = of_trainer(model, split) if batches is None else of_batches(model, batches)
        scoring = script.scoring()
        rows = script.rows.drawn(MOST_ROWS, seed=0)
        refuse_few(rows)
        note = rows_words(script.name, rows, len(script.rows))
        log.info("%s", note)
        world = World(Compute(device, bf16=script.bf16), progress=Bar)
        passes = Passes.of(rows, scoring, world, script.batch)
        with left_alone(peft_model):
            if other := passes.other_loss(peft_model, scoring.loss):
                raise UserError(f"measure_adapter: {other}: another loss cannot be measured")
            return measure_model(peft_model, passes, script.batch, world, note)


def refuse_few(rows: Rows) -> None:
    """Raises UserError for so few rows that nothing can be measured."""
    if len(rows) < LEAST_ROWS:
        raise UserError(
            f"{len(rows)} rows are too few to measure an adapter; allowed: {LEAST_ROWS} or more"
        )


def rows_words(name: str, rows: Rows, of: int) -> str:
    """What is measured, in words: `rows` of all `of` that `name` has."""
    drawn = "" if len(rows) == of else f" of {of:,}"
    return f"rows: {name}, {len(rows):,}{drawn} rows, {rows.group_count:,} distinct inputs"


def refuse_sizes(
    keep: float | None, rank: int | None, parameters: int | None, max_rank: int | None
) -> None:
    """Raises UserError unless exactly one of the first three is given, and each is in its range."""
    given = {"keep": keep, "rank": rank, "parameters": parameters}
    if list(given.values()).count(None) != 2:
        raise UserError("cut: give one of keep, rank and parameters")
    for name, value in (given | {"max_rank": max_rank}).items():
        if value is not None and not 0 < value <= (1 if name == "keep" else math.inf):
            raise UserError(f"cut: {name} is {value}; allowed: above 0; for keep, up to 1")


def measure_model(
    model: PeftModel,
    passes: Passes,
    batch: int,
    world: World,
    note: str = "",
    off: Mapping[str, Tensor] | None = None,
) -> MeasuredAdapter:
    """Measures the adapter by these passes, `batch` rows at a time where a gradient is taken;
    leaves the model and the random numbers as they were. `note`: what was read, in words. `off`:
    the values of trained biases in the base model, as `Lora` takes them."""
    refuse_few(passes.rows)
    lora = Lora(model, adapter_of(model), off)
    try:
        with same_random_numbers(passes.compute.device), torch.enable_grad():
            plan = Plan(keep=KEEP, batch=batch)
            found = measure(lora, passes, plan, progress=world.progress)
    except NotFinite as error:
        raise UserError("the losses of the adapter on these rows are not finite") from error
    columns = {
        key: values.tolist() for key, values in found.shares.columns().items() if values.dim() == 1
    }
    layers = tuple(
        LayerRank(name, rank, **{key: values[place] for key, values in columns.items()})
        for place, (name, rank) in enumerate(zip(lora.names, lora.ranks, strict=True))
    )
    size = sum(rank * size for rank, size in zip(lora.ranks, lora.sizes, strict=True))
    record = RankRecord(
        lora.k,
        layers,
        rule="measured",
        lora_parameters=size,
        note=note or None,
        evidence=found.evidence,
    )
    return MeasuredAdapter(model, record, found.moments)
