"""The last words of a run: its ranks, its result, where its files are and what to try next."""

import math
import shlex
from typing import Any

from rich.text import Text

from configs.requests import Request
from configs.rules import SEARCHING
from engine import ranks
from engine.answer.trust import trust_words
from engine.answer.words import conclusion, curve_lines, gain_words, share_lines
from engine.ranks import RankRecord
from engine.report.controls import controls_of
from engine.report.edits import edit_words
from engine.run.contents import read_result, read_searched, read_verdict
from engine.run.folder import RunFolder
from engine.terminal.console import console
from engine.terminal.rank_map import RankMap

_TRAININGS = 20
"""Retrainings that eight pairs take: two each, the head's, and the evaluations."""

RESULT_KEYS = ("task", "split", "metrics", "lora_parameters", "trainable_parameters", "seconds")
"""The keys of metrics.json that the last words need."""


def print_result(folder: RunFolder) -> None:
    """Prints the ranks, the metrics and the paths of a run folder."""
    record = ranks.load(folder.ranks) if folder.ranks.exists() else None
    if record is not None:
        console.print(f"ranks, mean {record.mean_rank:.2f} of k = {record.k}:")
        names, found = [x.name for x in record.layers], [x.rank for x in record.layers]
        console.print(RankMap(names, record.k, found, undecided=record.undecided))
        _print_answer(record, folder)
    if folder.metrics.exists():
        result = read_result(folder.metrics, *RESULT_KEYS)
        # Metrics of one class ("protein.f1") are left to metrics.json and the report's page.
        values = ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items() if "." not in name)
        lora = result["lora_parameters"]
        size = f"{lora:,} LoRA" if lora else f"{result['trainable_parameters']:,} trainable"
        where, cost = (
            f"{result['task']} {result['split']}: ",
            f"({size} parameters, {result['seconds']['total']:.0f} s)",
        )
        console.print(Text.assemble(where, (values, "bold"), "  ", cost))
        _print_controls(result, record, folder)
    _print_verdict(folder)
    written = [folder.ranks, folder.lora_config, folder.untrained, folder.adapter, folder.padded, folder.gguf]
    written += [folder.merged, folder.metrics, folder.predictions, folder.references, folder.written, folder.samples]
    for path in (*written, folder.report, folder.trajectory):
        labels = {folder.trajectory: "alpha over steps", folder.gguf: "for llama.cpp"}
        label = labels.get(path, path.stem)
        if path.exists():
            console.print(f"{label:>17}  {path}", highlight=False, soft_wrap=True)


def _print_answer(record: RankRecord, folder: RunFolder) -> None:
    """How far the ranks are decided, how many are enough, where they matter, and what a reader must know of them."""
    if trust := trust_words(record, folder):
        console.print(trust, markup=False)
    if edits := edit_words(record, folder):
        console.print(edits, markup=False)
    if record.note:
        console.print(record.note, markup=False)
    if record.evidence is None:
        return
    console.print(gain_words(record.evidence), markup=False)
    for line in curve_lines(record):
        console.print(f"  {line}", markup=False, highlight=False)
    console.print(Text(f"  -> {conclusion(record)}", style="bold"))
    for line in share_lines(record):
        console.print(f"  {line}", markup=False, highlight=False, no_wrap=True, overflow="ellipsis")


def _print_controls(result: dict[str, Any], record: RankRecord | None, folder: RunFolder) -> None:
    """The controls that lie beside the run, and the commands that make the others."""
    per_rank = sum(read_searched(folder.search_summary).get("parameters_per_rank", {}).values())
    controls = controls_of(folder.root, result, record, per_rank)
    if controls is None:
        return
    wide = max(len(x.what) for x in controls.runs)
    for x in controls.runs if len(controls.runs) > 1 else ():
        loss = "" if x.loss is None else f", loss {x.loss:.4f}"
        loss += "" if x.calibrated is None else f" ({x.calibrated:.4f} at a fitted temperature)"
        size = f"{x.parameters:,} LoRA parameters"
        console.print(f"  {x.what:<{wide}}  {controls.metric} {x.score:.4f}{loss}, {size}", highlight=False)
    for line in (controls.note, *(f"not run yet, {what}:\n  {made}" for what, made in controls.missing.items())):
        if line:
            console.print(line, highlight=False, soft_wrap=True)


def print_verdict(folder: RunFolder) -> None:
    """Prints what --stage verdict found, and where it stands."""
    _print_verdict(folder)
    for path in (folder.verdict_summary, folder.report):
        console.print(f"{path.stem:>17}  {path}", highlight=False, soft_wrap=True)


def _print_verdict(folder: RunFolder) -> None:
    found = read_verdict(folder.verdict_summary)
    if not found:
        return
    console.print(Text(found["sentence"], style="bold"))
    for arm in found.get("arms", []):
        loss = sum(arm["losses"]) / len(arm["losses"])
        behind = f", {arm['difference']:+.4f} against learned" if arm.get("difference") is not None else ""
        score = f", {found['metric']} {sum(arm['scores']) / len(arm['scores']):.4f}" if arm.get("scores") else ""
        size = f"{arm['parameters']:,} LoRA parameters"
        console.print(f"  {arm['name']:<9} loss {loss:.4f}{score}, {size}{behind}", highlight=False, soft_wrap=True)
    for line in (*found.get("notes", []), found["recommendation"]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_next(request: Request) -> None:
    """Prints a command worth trying after this one, and where a search found ranks the one that tests their places."""
    console.print(f"{'next':>17}  {next_command(request)}", highlight=False, soft_wrap=True, style="bold")
    if line := verdict_line(request):
        console.print(f"{'places matter?':>17}  {line}", highlight=False, soft_wrap=True)


def verdict_line(request: Request) -> str:
    """The command that tells whether the places of the ranks matter, with its time as far as it is known; "" where
    there is nothing to tell, or it has been told."""
    config, folder = request.config, RunFolder.of(request.config)
    if config.method not in SEARCHING or not folder.ranks.exists() or folder.verdict_summary.exists():
        return ""
    if len({layer.rank for layer in ranks.load(folder.ranks).layers}) == 1:
        return ""
    if config.retrain.learning_rates and not folder.metrics.exists():  # the retraining has yet to choose one
        return ""
    command = f"python run.py --config {shlex.quote(str(folder.config))} --stage verdict"
    each = _retraining_seconds(request, folder)
    if each is None:
        return command
    minutes = math.ceil(_TRAININGS * each / 60)
    longer = f" --verdict.minutes {minutes}" if minutes > config.verdict.minutes else ""
    return f"{command}{longer}   (8 pairs: about {minutes} minutes)"


def _retraining_seconds(request: Request, folder: RunFolder) -> float | None:
    """Seconds of one retraining: those of this run's, else its steps at the pace of the search's backward passes; None
    where neither is known."""
    measured = (read_result(folder.metrics).get("seconds") or {}).get("retrain")
    if measured is not None:
        return float(measured)
    searched, steps = read_searched(folder.search_summary), request.config.retrain.max_steps
    backward = searched.get("passes", {}).get("backward")
    if steps is None or not backward or not searched.get("seconds"):
        return None
    return float(steps * searched["seconds"] / backward)


def next_command(request: Request) -> str:
    """The command that `print_next` prints. It starts from the run's config.yaml, in which the command line's options
    are too."""
    name = request.config.name
    begin = f"python run.py --config {shlex.quote(str(RunFolder.of(request.config).config))}"
    if request.stage == "search":
        return f"{begin} --stage retrain"
    if request.config.method != "autolora":
        return f"{begin} --name {name}-autolora --method autolora"
    # Another search, also where this run took one over.
    searches = " --answer.from null" if request.config.answer.from_run is not None else ""
    # What the search had already would be the same run again.
    other = "none" if request.config.hypergradient.type == "first_order" else "first_order"
    return f"{begin} --name {name}-{other.replace('_', '-')} --hypergradient.type {other}{searches}"
