"""What a finished adapter is worth on held-out rows: its gain, its layers, and how small it can be
cut."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, PeftModel, TaskType
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from autolora.configs.errors import UserError
from autolora.configs.measure import LEAST_ROWS
from autolora.engine.measure.bases import Basis, even_ranks, uneven_ranks
from autolora.engine.measure.cut import adapter_of, cut_adapter, padded, save_adapter
from autolora.engine.measure.evidence import Evidence
from autolora.engine.measure.likelihood import Likelihood, likelihood_of
from autolora.engine.measure.lora import Lora
from autolora.engine.measure.measure import NotFinite, Plan, measure
from autolora.engine.measure.moments import Moments
from autolora.engine.measure.passes import Passes
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.report.findings import curve_lines, gain_words, kept_words, share_lines
from autolora.engine.report.measured import curve_table, share_table
from autolora.engine.terminal.bar import Bar
from autolora.engine.terminal.console import heard
from autolora.engine.world import World
from autolora.problems.machine.compute import Compute, same_random_numbers
from autolora.problems.rows import Rows
from autolora.problems.tasks.scoring import scoring_of_script

MOST_ROWS = 2000
"""Of more rows so many are drawn."""
KEEP = (0.99, 0.95)
"""The parts of the gain whose smallest rank is told."""


_TASK_OF = {
    "ForCausalLM": TaskType.CAUSAL_LM,
    "LMHeadModel": TaskType.CAUSAL_LM,
    "ForSequenceClassification": TaskType.SEQ_CLS,
    "ForTokenClassification": TaskType.TOKEN_CLS,
}
"""How the name of a model's class ends -> the task type that it was made for."""


def task_of(model: Any) -> TaskType | None:
    """The task type that a model of transformers was made for; None if its class does not tell."""
    return next(
        (task for end, task in _TASK_OF.items() if type(model).__name__.endswith(end)), None
    )


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
        """What to do, in one sentence."""
        evidence = self.evidence
        k = self.record.k
        if not evidence.learned:
            error = evidence.gain_standard_error
            return (
                f"LoRA gains nothing that shows on these rows: {evidence.gain:.3g} +- "
                f"{error:.2g} nats per label"
            )
        told = []
        for keep in KEEP:
            rank = evidence.keeping(keep)
            point = next(point for point in evidence.rank_curve if point.at == rank)
            if rank == k:
                told.append(f"no rank of the curve below {k} keeps {100 * keep:.0f} %")
            elif evidence.uneven_is_better(int(point.at)):
                size = next(one for one in evidence.uneven_curve if one.at == rank)
                told.append(
                    f"{size.parameters:,} parameters, placed unevenly, keep "
                    f"{kept_words(size)}, surely more than rank {rank} everywhere, which keeps "
                    f"{kept_words(point)}"
                )
            else:
                told.append(f"rank {rank} everywhere keeps {kept_words(point)}")
        return "; ".join(dict.fromkeys(told))

    def __str__(self) -> str:
        told = self.evidence.few, gain_words(self.evidence, "these rows"), *curve_lines(self.record)
        return "\n".join(filter(None, [*told, *share_lines(self.record), f"-> {self.advice}"]))

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


def measure_adapter(model: Any, batches: Iterable[Any] | None = None) -> MeasuredAdapter:
    """Measures the LoRA adapter of a model on held-out rows, and leaves the model and the random
    numbers as they were.

    `model`: a PeftModel with `batches` (dicts of tensors with `labels`, padded, with an attention
    mask), or a trainer of transformers or TRL, whose model, eval_dataset and collator are taken.
    The rows must not be those that the adapter was trained on, which flatter it. The loss is the
    log loss of the labels. Raises UserError for an adapter that cannot be measured (DoRA, ...).
    """
    trainer = model if batches is None else None
    model = getattr(model, "model", model) if trainer is not None else model
    if not isinstance(model, PeftModel):
        raise UserError(
            f"measure_adapter: {type(model).__name__} has no adapter; give a PeftModel, or a "
            "trainer of one"
        )
    device = next(model.parameters()).device
    with heard(), same_random_numbers(device):  # a DataLoader draws a number whenever it begins
        if trainer is not None:
            loader = trainer.get_eval_dataloader()
            source = loader.dataset
            collate = loader.collate_fn
            size = trainer.args.per_device_eval_batch_size
            bf16 = bool(trainer.args.bf16)
        else:
            source, size = _examples(batches or ())
            collate = partial(_stacked, getattr(model.config, "pad_token_id", None) or 0)
            bf16 = False
        data = Rows.of_script(source, collate, by_text=True)
        rows = data.drawn(MOST_ROWS, seed=0)
        world = World(Compute(device, bf16=bf16), progress=Bar)
        passes = Passes(rows, _likelihood(model, data), world.compute, batch=size)
        return measured(model, passes, size, world)


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


def measured(
    model: PeftModel,
    passes: Passes,
    batch: int,
    world: World,
    off: Mapping[str, Tensor] | None = None,
) -> MeasuredAdapter:
    """Measures the adapter by these passes, `batch` rows at a time where a gradient is taken;
    leaves the model and the random numbers as they were. `off`: the values of trained biases in the
    base model, as `Lora` takes them."""
    if len(passes.rows) < LEAST_ROWS:
        raise UserError(
            f"{len(passes.rows)} rows are too few to measure an adapter; allowed: {LEAST_ROWS} "
            "or more"
        )
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
        lora.k, layers, rule="measured", lora_parameters=size, evidence=found.evidence
    )
    return MeasuredAdapter(model, record, found.moments)


def _likelihood(model: PeftModel, rows: Rows) -> Likelihood:
    """The log loss that suits the model's task. Raises UserError if neither PEFT nor the model's
    class tells it."""
    base = model.get_base_model()
    task = model.peft_config[model.active_adapter].task_type or task_of(base)
    if task is None:
        raise UserError(
            "measure_adapter: the LoraConfig has no task_type; allowed: SEQ_CLS, TOKEN_CLS, "
            "CAUSAL_LM, ..."
        )
    outputs = getattr(base.config, "num_labels", None)
    return likelihood_of(scoring_of_script(task, None, rows, outputs))


def _examples(batches: Iterable[Any]) -> tuple[list[dict[str, Tensor]], int]:
    """The rows of given batches without their padding, and how many the largest batch has."""
    rows: list[dict[str, Tensor]] = []
    largest = 0
    for batch in batches:
        tensors = {
            name: value
            for name, value in batch.items()
            if isinstance(value, Tensor) and value.dim()
        }
        count = len(tensors["labels"])
        largest = max(largest, count)
        rows += [
            _unpadded({name: value[row] for name, value in tensors.items()}) for row in range(count)
        ]
    shapes = {tuple((name, value.shape) for name, value in row.items()) for row in rows}
    if len(shapes) > 1 and "attention_mask" not in rows[0]:
        raise UserError(
            "batches: rows have different lengths and no attention_mask, so that padding "
            "cannot be told"
        )
    return rows, largest


def _unpadded(row: dict[str, Tensor]) -> dict[str, Tensor]:
    """The row where its attention mask is 1."""
    mask = row.get("attention_mask")
    if mask is None or mask.dim() != 1:
        return row
    seen = mask.nonzero()[:, 0]
    first = int(seen[0])
    last = int(seen[-1]) + 1
    return {
        name: v[first:last] if v.dim() and len(v) == len(mask) else v for name, v in row.items()
    }


def _stacked(pad: int, rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The rows as one batch, padded behind; `pad`: the token for it."""
    filled = {"labels": -100, "input_ids": pad}
    return {
        name: pad_sequence(
            [row[name] for row in rows], batch_first=True, padding_value=filled.get(name, 0)
        )
        if rows[0][name].dim()
        else torch.stack([row[name] for row in rows])
        for name in rows[0]
    }
