"""What a script gives to be measured: a trainer, or a model with batches."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from peft import PeftModel, TaskType
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import ConcatDataset

from autolora.configs.errors import UserError
from autolora.problems.models.precision import keep_unpacked
from autolora.problems.models.snapshot import Snapshot
from autolora.problems.rows import Rows
from autolora.problems.tasks.scoring import Scoring, scoring_of_script

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
class Script:
    """What a script gives: a model, the rows to measure it on and their name, how many of them go
    through the model at a time, and whether in bf16."""

    model: PeftModel
    rows: Rows
    name: str
    batch: int
    bf16: bool = False

    def scoring(self) -> Scoring:
        """How the rows are judged. Raises UserError where their log loss is not known."""
        base = self.model.get_base_model()
        config: Any = self.model.peft_config[self.model.active_adapter]
        task = config.task_type or task_of(base)
        scoring = scoring_of_script(task, None, self.rows, base.config)
        if not scoring.tells_rows:
            raise UserError(
                f"measure_adapter: the log loss of rows is not known; task type: {task}; allowed: "
                "SEQ_CLS, TOKEN_CLS, CAUSAL_LM, with a row of labels for each example (without "
                "packing)"
            )
        return scoring


def of_trainer(trainer: Any, split: str | None) -> Script:
    """A trainer's model, its evaluation rows and its collator. `split`: one of several evaluation
    sets; None: all of them together.

    Raises UserError for a trainer without such rows: those that it trains on are never taken."""
    model = adapted(trainer.model)
    sets = trainer.eval_dataset
    if sets is None:
        raise UserError(
            "measure_adapter: the trainer has no eval_dataset; give it rows that the adapter was "
            "not trained on"
        )
    several = sets if isinstance(sets, dict) else {}
    if split is not None and split not in several:
        raise UserError(
            f"measure_adapter: split: {split!r} is none of the trainer's evaluation sets; there "
            f"are: {', '.join(several) or 'eval_dataset, without splits'}"
        )
    names = [split] if split is not None else list(several) or [None]
    loaders = [trainer.get_eval_dataloader(name) for name in names]
    parts = [loader.dataset for loader in loaders]
    sizes = [f"{name} {len(part):,}" for name, part in zip(names, parts, strict=True) if name]
    rows = Rows.of_script(ConcatDataset(parts), loaders[0].collate_fn, by_text=True)
    name = f"eval_dataset ({', '.join(sizes)})" if sizes else "eval_dataset"
    args = trainer.args
    return Script(model, rows, name, args.per_device_eval_batch_size, bool(args.bf16))


def of_batches(model: Any, batches: Iterable[Any]) -> Script:
    """A model and dicts of tensors with `labels`. Raises UserError for batches that do not have a
    row for each example."""
    peft_model = adapted(model)
    examples, largest = _examples(batches)
    config: Any = peft_model.config
    collate = partial(_stacked, getattr(config, "pad_token_id", None) or 0)
    rows = Rows.of_script(examples, collate, by_text=True)
    return Script(peft_model, rows, "batches", largest)


def adapted(model: Any) -> PeftModel:
    """The PeftModel inside what torch.compile, DataParallel or accelerate have put around it.
    Raises UserError if it is none."""
    inner = extract_model_from_parallel(model, keep_torch_compile=False)
    if not isinstance(inner, PeftModel):
        raise UserError(
            f"measure_adapter: {type(inner).__name__} has no adapter; give a PeftModel, or a "
            "trainer of one"
        )
    return inner


@contextmanager
def left_alone(model: PeftModel) -> Iterator[None]:
    """After the `with` block the model is what it was, although a model that is given labels
    writes its problem_type into its configuration. Inside, bitsandbytes packs no weights."""
    before = Snapshot(model)
    try:
        keep_unpacked(model)
        yield
    finally:
        before.restore()


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
        if "labels" not in tensors:
            raise UserError("batches: a batch has no labels; give a row of labels for each row")
        count = len(tensors["labels"])
        for name, value in tensors.items():
            if len(value) != count:
                raise UserError(
                    f"batches: {name} has {len(value)} rows, labels has {count}; allowed: a row "
                    "for each example"
                )
        largest = max(largest, count)
        rows += [
            _unpadded({name: value[row] for name, value in tensors.items()}) for row in range(count)
        ]
    if not rows:
        raise UserError("batches: there are no rows to measure")
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
    found = {}
    for name, value in row.items():
        # The labels of a row that are no whole numbers are not those of its tokens.
        of_tokens = not (name == "labels" and value.is_floating_point())
        padded = value.dim() and len(value) == len(mask) and of_tokens
        found[name] = value[first:last] if padded else value
    return found


def _stacked(pad: int, rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The rows as one batch, padded behind; `pad`: the token for it."""
    filled = {"labels": -100, "input_ids": pad}
    batch = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if first.dim():
            padding = filled.get(name, 0)
            batch[name] = pad_sequence(values, batch_first=True, padding_value=padding)
        else:
            batch[name] = torch.stack(values)
    return batch
