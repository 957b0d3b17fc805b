"""What is measured: a model, rows that are as long as SST-2's, and one step of each way to train on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel, TaskType
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, set_seed

from autolora.configs.layers import settings, with_values
from autolora.configs.schema import Adalora, Autolora
from autolora.engine.retrain.methods import METHODS
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.search.engine import SearchEngine, build_engine
from autolora.problems import data
from autolora.problems.data import Batches, prepare
from autolora.problems.machine.compute import Compute, choose_compute
from autolora.problems.models.attach import attach_components
from autolora.problems.models.layers import with_modules_to_save
from autolora.problems.models.load import BaseModel, load_base, load_tokenizer, share_padding
from autolora.problems.models.precision import train_in_fp32, weights_dtype
from autolora.problems.tasks import Collate, make_task
from benchmarks.lengths import draw_lengths
from benchmarks.random_models import random_llama, shape_of
from benchmarks.timing import Batch


@dataclass(frozen=True)
class Workload:
    """What all contenders of one measurement share. `base(second_order)` makes a fresh base model."""

    config: Autolora
    rows: Dataset
    collate: Collate
    compute: Compute
    base: Callable[[bool], BaseModel]
    peft_type: TaskType = TaskType.SEQ_CLS

    def batches(self, count: int) -> list[Batch]:
        """The first batches, on the device, in the program's own order, which puts rows of similar length together."""
        size, seed = self.config.search.batch_size, self.config.seed
        batches = Batches(self.rows, size, self.collate, seed, self.compute.device)
        return [batches[number].parts[0][0] for number in range(count)]

    def lora(self, *, second_order: bool = False) -> PeftModel:
        """The model with plain LoRA of rank k."""
        base = self.base(second_order)
        return attach_components(base.model, self.config.lora, self.peft_type, base.trained_whole)


def searched(values: dict[str, Any]) -> Autolora:
    """A run that searches, by these keys."""
    found = settings(values)
    assert isinstance(found, Autolora)
    return found


def make_workload(values: dict[str, Any], path: str | None, rows: int, length: int | None = None) -> Workload:
    """A classifier and its rows. `values`: keys of the configuration.

    The rows are those of SST-2 from the folder `path`. Without it they are random tokens, in SST-2's lengths or all of
    `length` tokens. Raises UserError for a model or data that cannot be loaded.
    """
    given = {"tracking.wandb": "disabled", "task.train_rows": rows}
    if path is not None:
        given |= {"task.type": "glue", "task.glue": "sst2", "task.path": path}
    config = searched({"name": "benchmark"} | given | values)
    set_seed(config.seed)
    tokenizer = load_tokenizer(config.model)
    if path is not None:
        prepared = prepare(make_task(config), tokenizer, config)
        encoded, collate = prepared.train, prepared.collate
    else:
        encoded = _random_rows(rows, len(tokenizer), config.seed, length)
        collate = make_task(config).collate(tokenizer)

    compute = choose_compute(config)
    kind = AutoModelForSequenceClassification
    dtype = weights_dtype(config, kind, compute)

    def load(second_order: bool) -> BaseModel:
        set_seed(config.seed)
        base = load_base(config.model, kind, second_order=second_order, dtype=dtype, num_labels=2)
        share_padding(base.model, tokenizer)
        whole = with_modules_to_save(base, config.lora.modules_to_save, config.lora.target_modules)
        return train_in_fp32(whole, dtype)

    return Workload(config, encoded, collate, compute, load)


def language_workload(values: dict[str, Any], model: str, rows: int, length: int) -> Workload:
    """A causal language model and its rows. `model`: as --model.name, or random:SHAPE; `values`: keys to set.

    Each row has `length` random tokens, all of which are labels. Raises UserError for a model that cannot be loaded.
    """
    shape = shape_of(model)
    given = {
        "tracking.wandb": "disabled",
        "task.type": "generation",
        "task.benchmark": "e2e",
        "task.label_smoothing": 0.0,
    }
    config = searched({"name": "benchmark"} | given | values | ({} if shape else {"model.name": model}))
    compute = choose_compute(config)
    vocabulary = shape["vocab_size"] if shape else len(load_tokenizer(config.model))
    encoded = _random_rows(rows, vocabulary, config.seed, length)
    encoded = encoded.remove_columns("labels").add_column("labels", encoded["input_ids"][:])

    def load(second_order: bool) -> BaseModel:
        set_seed(config.seed)
        if shape:  # its shape is known, but there are no weights to load
            bf16 = config.model.dtype == "bf16" or (config.model.dtype == "auto" and compute.bf16)
            base = random_llama(shape, torch.bfloat16 if bf16 else torch.float32, second_order=second_order)
        else:
            dtype = weights_dtype(config, AutoModelForCausalLM, compute)
            base = load_base(config.model, AutoModelForCausalLM, second_order=second_order, dtype=dtype)
        make_task(config).adapt(base.model)
        return base

    return Workload(config, encoded, _stacked, compute, load, TaskType.CAUSAL_LM)


def _stacked(rows: list[dict[str, Any]]) -> Batch:
    """Rows of one length as a batch."""
    return {key: torch.tensor([row[key] for row in rows]) for key in ("input_ids", "attention_mask", "labels")}


def _random_rows(rows: int, vocabulary: int, seed: int, length: int | None) -> Dataset:
    """Rows as `Task.encode` gives them, of random tokens and labels."""
    random = np.random.default_rng(seed)
    lengths = draw_lengths(rows, seed) if length is None else np.full(rows, length)
    ids = [random.integers(vocabulary, size=n).tolist() for n in lengths]
    return Dataset.from_dict(
        {
            "input_ids": ids,
            "attention_mask": [[1] * n for n in lengths],
            "labels": random.integers(2, size=rows).tolist(),
            "length": lengths.tolist(),
        }
    )


class HandedOver:
    """Batches, each of which is the one that was last assigned to `batch`, with masks of its own."""

    batch: Batch

    def __getitem__(self, number: int) -> data.Batch:
        return data.Batch([(dict(self.batch), 1.0)], number)


class SearchStep:
    """One search step (inner and outer) of the program. Both problems get the same batch, as only the length of a
    batch changes the cost."""

    def __init__(self, work: Workload, method: str) -> None:
        config = with_values(work.config, {"hypergradient.type": method, "search.unroll_steps": 1})
        assert isinstance(config, Autolora)
        model = work.lora(second_order=config.second_order)
        self.engine: SearchEngine = build_engine(config, model, work.rows, work.rows, work.collate, work.compute)
        self.handed = HandedOver()
        self.engine.lora.batches = self.engine.selection.batches = self.handed  # type: ignore[assignment]
        self.engine.train()

    def __call__(self, batch: Batch) -> None:
        self.handed.batch = batch
        self.engine.global_step += 1
        self.engine.train_step()


class PlainStep:
    """One step of an ordinary training of a PEFT model: forward, backward, clipping, fused AdamW."""

    def __init__(self, work: Workload, model: nn.Module) -> None:
        self.compute = work.compute
        self.model = model.to(work.compute.device).train()
        self.trained = [p for p in model.parameters() if p.requires_grad]
        search = work.config.search
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=search.learning_rate, weight_decay=search.weight_decay, fused=work.compute.fused
        )
        self.clip = search.gradient_clipping

    def __call__(self, batch: Batch) -> None:
        with self.compute.autocast():
            loss = self.model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, self.clip)
        self.optimizer.step()
        self.after()
        self.optimizer.zero_grad()

    def after(self) -> None:
        """Called after the optimiser's step, before the gradients are reset."""


class AdaLoraStep(PlainStep):
    """One step of the program's AdaLoRA while it reduces the ranks, with PEFT's importance scores and masks."""

    STEPS = 4000

    def __init__(self, work: Workload) -> None:
        config = with_values(work.config, {"method": "adalora", "retrain.max_steps": self.STEPS})
        run = Context(config, StopRequest())
        model = METHODS[Adalora].prepare(work.base(False), run, len(work.rows)).model
        super().__init__(work, model)
        self.tuner: Any = model.base_model
        self.count = self.STEPS // 4

    def after(self) -> None:
        self.count += 1
        self.tuner.update_and_allocate(self.count)
