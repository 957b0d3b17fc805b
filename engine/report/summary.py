"""The summary of a run in the terminal: its ranks, its result, and where its files are."""

import math
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from autolora.engine import ranks
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.words import (
    caution,
    conclusion,
    curve_lines,
    gain_words,
    how_chosen,
    share_lines,
    steadiness,
)
from autolora.engine.report.words import mean_of_arms, signed
from autolora.engine.run.contents import parameters_per_rank, read_result, read_verdict
from autolora.engine.run.folder import RunFolder
from autolora.engine.terminal.console import console
from autolora.engine.terminal.rank_map import RankMap


def print_result(folder: RunFolder) -> None:
    """Prints the ranks, the metrics and the paths of a run folder."""
    record = ranks.load(folder.ranks) if folder.ranks.exists() else None
    if record is not None:
        how = how_chosen(record, sum(parameters_per_rank(folder).values()))
        console.print(f"{' '.join(filter(None, ('ranks', how)))}, mean {record.mean_in_words}:")
        names, found = [x.name for x in record.layers], [x.rank for x in record.layers]
        console.print(RankMap(names, record.k, found, undecided=record.undecided))
        _print_answer(record)
    if folder.metrics.exists():
        result = read_result(folder.metrics)
        values = metric_words(result)
        lora = result["lora_parameters"]
        size = f"{lora:,} LoRA" if lora else f"{result['trainable_parameters']:,} trainable"
        where, cost = (
            f"{result.get('evaluated_on') or ', '.join((result['task'], result['split']))}: ",
            f"({size} parameters, {_time(result['seconds']['total'])})",
        )
        console.print(Text.assemble(where, (values, "bold"), "  ", cost), soft_wrap=True)
    _print_verdict(folder)
    written = [folder.ranks, folder.lora_config, folder.adapter, folder.padded]
    written += [folder.merged, folder.metrics, folder.predictions, folder.predicted_rows, folder.references]
    written += [folder.written, folder.samples]
    for path in (*written, folder.report, folder.trajectory):
        labels = {folder.trajectory: "alpha over steps", folder.written: "prompts and texts"}
        label = labels.get(path, path.stem)
        if path.exists():
            console.print(f"{label:>17}  {path}", highlight=False, soft_wrap=True)


def _time(seconds: float) -> str:
    """`82 s`, `12 min` or `3.5 h`."""
    if seconds < 300:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


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


def _print_answer(record: RankRecord) -> None:
    """Prints which ranks are decided, the note, which rank is enough, and in which layers LoRA matters."""
    if words := steadiness(record):
        console.print(words, markup=False)
    if record.note:
        console.print(record.note, markup=False)
    if record.evidence is None:
        return
    console.print(gain_words(record.evidence), markup=False)
    for line in curve_lines(record):
        console.print(f"  {line}", markup=False, highlight=False)
    console.print(Text(f"  -> {conclusion(record)}", style="bold"))
    if words := caution(record):
        console.print(f"  ({words})", markup=False, highlight=False)
    for line in share_lines(record):
        console.print(f"  {line}", markup=False, highlight=False, no_wrap=True, overflow="ellipsis")


def print_verdict(folder: RunFolder) -> None:
    """Prints the result of --stage verdict and the paths of its files."""
    _print_verdict(folder)
    for path in (folder.verdict_summary, folder.report):
        console.print(f"{path.stem:>17}  {path}", highlight=False, soft_wrap=True)


def _print_verdict(folder: RunFolder) -> None:
    found = read_verdict(folder.verdict_summary)
    if not found:
        return
    console.print(Text(found["sentence"], style="bold"))
    arms = found.get("arms", [])
    for arm, loss, score in zip(arms, mean_of_arms(arms, "losses"), mean_of_arms(arms, "scores"), strict=True):
        behind = (
            f", loss minus that of the learned ranks {signed(arm['difference'])}"
            if arm.get("difference") is not None
            else ""
        )
        score = f", {found.get('metric', '')} {score}" if score else ""
        size = f"{arm['parameters']:,} LoRA parameters"
        console.print(f"  {arm['name']:<9} loss {loss}{score}, {size}{behind}", highlight=False, soft_wrap=True)
    for line in (*found.get("notes", []), found["recommendation"]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
