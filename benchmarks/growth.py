"""Measure how the cost of a step grows with k, depth, length and the number of gated modules, on random weights.

Also measures what gating and selection alone cost: the time of a search step without outer steps, divided by that of a
plain LoRA step.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table
from transformers import BertConfig, BertForSequenceClassification, set_seed

from autolora.configs.errors import UserError
from autolora.engine.report.figures import plt, save_figure
from autolora.engine.terminal.console import log
from autolora.problems.hypergradients import HYPERGRADIENTS
from autolora.problems.models.load import BaseModel
from benchmarks.command import Settings, main, refuse_unknown, table_of
from benchmarks.timing import Contender, medians, take_turns
from benchmarks.workload import PlainStep, SearchStep, make_workload

GATING_TARGET = 1.05
"""A search step without outer steps may take this many times as long as a plain LoRA step."""
MODULES = (
    ["query", "value"],
    ["query", "key", "value"],
    ["query", "key", "value", "attention.output.dense"],
    ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"],
)


@dataclass(frozen=True)
class GrowthSettings(Settings):
    """What is timed. One axis varies at a time, while the others keep their base values."""

    plot: str | None = None
    """PNG that gets the curves."""
    methods: list[str] = field(default_factory=lambda: ["first_order", "forward_difference", "darts"])
    """Hypergradients to time."""
    k: list[int] = field(default_factory=lambda: [2, 4, 8, 16, 32, 64])
    """Rank-1 components per layer."""
    layers: list[int] = field(default_factory=lambda: [2, 6, 12, 24])
    """Blocks of the model."""
    length: list[int] = field(default_factory=lambda: [16, 64, 128, 256])
    """Tokens of every example."""
    modules: int = 4
    """How many of the 4 sets of target modules to measure, from query and value up to every linear layer."""
    base_k: int = 8
    """k while another axis varies."""
    base_layers: int = 6
    """Blocks while another axis varies."""
    base_length: int = 32
    """Tokens while another axis varies."""
    hidden: int = 384
    """Width of the model, a multiple of 64; one attention head for every 64."""
    batch_size: int = 16
    """Examples per batch."""
    precision: str = "auto"
    """As --precision of run.py."""
    device: str = "auto"
    """As --device of run.py."""
    rounds: int = 10
    """Timed rounds at each point."""
    warmup: int = 2
    """Untimed rounds before the timed ones."""

    AT_LEAST: ClassVar = {
        "rounds": 1, "warmup": 1, "modules": 1, "hidden": 64, "batch_size": 1, "k": 1, "layers": 1, "length": 1,
        "base_k": 1, "base_layers": 1, "base_length": 1,
    }  # fmt: skip
    PICTURES: ClassVar = ("plot",)


@dataclass(frozen=True)
class _Point:
    """The shape of one model, and of its batches."""

    k: int
    layers: int
    length: int
    modules: list[str]


def measure(settings: GrowthSettings) -> tuple[dict[str, Any], list[Table]]:
    """Times every point of every axis. Raises UserError for an unknown hypergradient and for a width that has no whole
    number of heads."""
    refuse_unknown("methods", settings.methods, [*HYPERGRADIENTS])
    if settings.hidden % 64:
        raise UserError(f"--hidden: {settings.hidden} is not allowed; allowed: a multiple of 64")
    axes: dict[str, list[dict[str, Any]]] = {}
    for axis, points in _axes(settings).items():
        axes[axis] = []
        for number, (value, point) in enumerate(points, start=1):
            log.info("%s = %d (%d of %d)", axis, value, number, len(points))
            axes[axis].append({"value": value, **_measure(settings, point)})
    base = next((row for row in axes["k"] if row["value"] == settings.base_k), axes["k"][0])
    numbers = {"axes": axes, "gating_over_lora": base["gating_over_lora"], "gating_target": GATING_TARGET}
    if settings.plot is not None:
        _draw(axes, Path(settings.plot))
    return numbers, [_table(axis, rows) for axis, rows in axes.items()]


def _axes(settings: GrowthSettings) -> dict[str, list[tuple[int, _Point]]]:
    k, layers, length = settings.base_k, settings.base_layers, settings.base_length
    base = MODULES[0]
    return {
        "k": [(v, _Point(v, layers, length, base)) for v in settings.k],
        "layers": [(v, _Point(k, v, length, base)) for v in settings.layers],
        "length": [(v, _Point(k, layers, v, base)) for v in settings.length],
        "modules": [(len(m), _Point(k, layers, length, m)) for m in MODULES[: settings.modules]],
    }


def _measure(settings: GrowthSettings, point: _Point) -> dict[str, Any]:
    values = {
        "lora.k": point.k, "lora.target_modules": point.modules, "search.batch_size": settings.batch_size,
        "precision": settings.precision, "device": settings.device, "task.max_length": max(4, point.length),
    }  # fmt: skip
    rows = settings.batch_size * (settings.warmup + settings.rounds)
    work = make_workload(values, None, rows, _random_model(settings, point), length=point.length)
    contenders = [Contender("lora", PlainStep(work, work.lora()))]
    contenders += [Contender("gating", SearchStep(work, "first_order", frozen=True))]
    contenders += [Contender(name, SearchStep(work, name)) for name in settings.methods]
    batches = work.batches(settings.warmup + settings.rounds)
    times = take_turns(contenders, batches, settings.warmup, work.compute.device)
    return {
        "seconds": medians(times),
        "ratio_to_lora": {name: times.ratio(name, "lora") for name in settings.methods},
        "gating_over_lora": times.ratio("gating", "lora"),
    }


def _random_model(settings: GrowthSettings, point: _Point) -> Callable[[bool], BaseModel]:
    def make(second_order: bool) -> BaseModel:
        set_seed(0)
        config = BertConfig(  # type: ignore[call-arg]
            hidden_size=settings.hidden,
            num_hidden_layers=point.layers,
            num_attention_heads=settings.hidden // 64,
            intermediate_size=4 * settings.hidden,
            max_position_embeddings=max(64, point.length + 2),
            num_labels=2,
            attn_implementation="eager" if second_order else "sdpa",
        )
        return BaseModel(BertForSequenceClassification(config), ["classifier"])

    return make


def _draw(axes: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draws the seconds of a step along each axis, a curve for each way to train."""
    labels = {"k": "k", "layers": "blocks", "length": "tokens per example", "modules": "gated modules per block"}
    figure, places = plt.subplots(1, len(axes), figsize=(3.2 * len(axes), 3.2), sharey=True, layout="constrained")
    for place, (axis, rows) in zip(places, axes.items(), strict=True):
        for name in rows[0]["seconds"]:
            place.plot([r["value"] for r in rows], [r["seconds"][name] for r in rows], marker="o", ms=3, label=name)
        place.set_xlabel(labels[axis])
        place.set_yscale("log")
        place.yaxis.set_major_formatter("{x:g}")  # figures here write no mathematical text, as 10^-2 would be
        if axis in ("k", "length"):
            place.set_xscale("log", base=2)
        place.set_xticks([r["value"] for r in rows], [str(r["value"]) for r in rows])
        place.minorticks_off()
        place.grid(alpha=0.3)
    places[0].set_ylabel("seconds per step")
    figure.legend(*places[0].get_legend_handles_labels(), loc="outside lower center", ncols=8, frameon=False)
    save_figure(figure, path)


def _table(axis: str, rows: list[dict[str, Any]]) -> Table:
    names = list(rows[0]["seconds"])
    table = table_of(f"Seconds per step along {axis}", axis, *names, "gating / lora", left=0)
    for row in rows:
        seconds = [f"{row['seconds'][name]:.4f}" for name in names]
        table.add_row(str(row["value"]), *seconds, f"{row['gating_over_lora']:.3f}")
    return table


if __name__ == "__main__":
    sys.exit(main(GrowthSettings, measure))
