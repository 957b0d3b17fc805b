"""The summary of a run in the terminal: its ranks, its result, and where its files are."""

from collections.abc import Mapping
from typing import Any

from autolora.engine import ranks
from autolora.engine.disk.files import read_json
from autolora.engine.ranks import RankRecord
from autolora.engine.report.findings import measured_lines, ranks_words
from autolora.engine.store.folder import RunFolder
from autolora.engine.terminal.console import console
from autolora.engine.terminal.rank_map import RankMap


def print_result(folder: RunFolder) -> None:
    """Prints the ranks, the metrics and the paths of a run folder."""
    if folder.ranks.exists():
        _print_ranks(ranks.load(folder.ranks))
    if result := read_json(folder.metrics):
        size = (
            f"{result['lora_parameters']:,} LoRA and {result['trainable_parameters']:,} "
            "trainable parameters"
        )
        where = f"{result['task']}, {result['split']}"
        console.print(
            f"{where}: {metric_words(result)}  ({size}, {result['seconds']['total']:,.0f} s)"
        )
    if found := read_json(folder.verdict_summary):
        console.print(found["sentence"], style="bold")
        console.print(found["recommendation"])
    for path in (
        folder.ranks,
        folder.lora_config,
        folder.adapter,
        folder.padded,
        folder.merged,
        folder.metrics,
        folder.verdict_summary,
        folder.predictions,
        folder.predicted_rows,
        folder.written,
        folder.report,
    ):
        if path.exists():
            console.print(f"{path.stem:>17}  {path}")


def _print_ranks(record: RankRecord) -> None:
    """Prints the rank map, which rank is enough, and in which layers LoRA matters."""
    console.print(f"{ranks_words(record)}:")
    console.print(RankMap(list(record.ranks), record.k, list(record.ranks.values())))
    if record.note:
        console.print(record.note)
    for line in measured_lines(record):
        console.print(f"  {line}")


def metric_words(result: Mapping[str, Any]) -> str:
    """The metrics, as `accuracy 0.9123 +- 0.0104`; metrics of single classes ("protein.f1") are
    left out."""
    told = [f"{name} {value:.4f}" for name, value in result["metrics"].items() if "." not in name]
    if error := result.get("standard_error"):
        told[0] += f" +- {error:.4f}"
    return ", ".join(told)
