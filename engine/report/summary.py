"""The summary of a run in the terminal: its ranks, its result, and where its files are."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.engine import ranks
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.record import steadiness
from autolora.engine.report.findings import caution, conclusion, curve_lines, gain_words, how_chosen, share_lines
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.records import parameters_per_rank, read_result, read_verdict
from autolora.engine.terminal.console import console
from autolora.engine.terminal.rank_map import RankMap


def print_result(folder: RunFolder) -> None:
    """Prints the ranks, the metrics and the paths of a run folder."""
    if folder.ranks.exists():
        _print_ranks(ranks.load(folder.ranks), sum(parameters_per_rank(folder).values()))
    if folder.metrics.exists():
        result = read_result(folder.metrics)
        size = (
            f"{result['lora_parameters']:,} LoRA"
            if result["lora_parameters"]
            else f"{result['trainable_parameters']:,} trainable"
        )
        where = result.get("evaluated_on") or f"{result['task']}, {result['split']}"
        console.print(f"{where}: {metric_words(result)}  ({size} parameters, {result['seconds']['total']:,.0f} s)")
    _print_verdict(folder)
    _print_paths(
        folder.ranks, folder.lora_config, folder.adapter, folder.padded, folder.merged, folder.metrics,
        folder.predictions, folder.predicted_rows, folder.references, folder.written, folder.samples, folder.report,
        folder.trajectory,
    )  # fmt: skip


def _print_ranks(record: RankRecord, per_rank: int) -> None:
    """Prints the rank map, which ranks are decided, which rank is enough, and in which layers LoRA matters."""
    how = how_chosen(record, per_rank)
    console.print(f"ranks {how}, mean {record.mean_in_words}:" if how else f"ranks, mean {record.mean_in_words}:")
    console.print(RankMap(list(record.ranks), record.k, list(record.ranks.values())))
    for line in filter(None, (steadiness(record), record.note)):
        console.print(line)
    if record.evidence is None:
        return
    console.print(gain_words(record.evidence))
    doubt = caution(record)
    for line in (*curve_lines(record), f"-> {conclusion(record)}", *([f"({doubt})"] if doubt else [])):
        console.print(f"  {line}", style="bold" if line.startswith("->") else None)
    for line in share_lines(record):
        console.print(f"  {line}", no_wrap=True, overflow="ellipsis", soft_wrap=False)


def metric_words(result: Mapping[str, Any]) -> str:
    """The metrics, as `accuracy 0.91 +- 0.01 (750 rows)`: the first is rounded to the digits of its standard error.

    Metrics of single classes ("protein.f1") are left out; metrics.json and the report have them.
    """
    error, rows, told = result.get("standard_error"), result.get("evaluated_rows"), []
    for number, (name, value) in enumerate(result["metrics"].items()):
        if number == 0 and error:
            digits = max(2, math.ceil(-math.log10(error)))
            of_rows = f" ({rows:,} rows)" if rows else ""
            told.append(f"{name} {value:.{digits}f} +- {error:.{digits}f}{of_rows}")
        elif "." not in name:
            told.append(f"{name} {value:.4f}")
    return ", ".join(told)


def print_verdict(folder: RunFolder) -> None:
    """Prints the result of --stage verdict and the paths of its files."""
    _print_verdict(folder)
    _print_paths(folder.verdict_summary, folder.report)


def _print_verdict(folder: RunFolder) -> None:
    if not (found := read_verdict(folder.verdict_summary)):
        return
    console.print(found["sentence"], style="bold")
    for arm in arms_of(found):
        console.print("  " + ", ".join(f"{key} {value}" for key, value in arm.items() if value))
    for line in (*found["notes"], found["recommendation"]):
        console.print(line)


def arms_of(verdict: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each arm of a verdict: its ranks, mean loss and score, parameters, and how far its loss lies above
    that of the learned ranks."""
    rows = []
    for arm in verdict.get("arms", []):
        row = {"ranks": arm["name"], "LoRA parameters": f"{arm['parameters']:,}"}
        for key, name in (("losses", "mean loss"), ("scores", verdict["metric"])):
            row[name] = f"{sum(arm[key]) / len(arm[key]):.5f}"
        above = arm.get("difference")
        row["loss above learned"] = "" if above is None else f"{above:+z.5f}"
        row["95 % interval"] = " to ".join(f"{limit:+z.5f}" for limit in arm.get("interval") or ())
        rows.append(row)
    return rows


def _print_paths(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            console.print(f"{path.stem:>17}  {path}")
