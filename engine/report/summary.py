"""The last words of a run: where everything is, the ranks, the result and what to try next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from configs.requests import Request
from engine import ranks
from engine.run.folder import RunFolder
from engine.terminal.console import console
from engine.terminal.rank_table import rank_table


def print_result(folder: RunFolder) -> None:
    """Ranks, metrics and paths of a run folder, to the terminal."""
    if folder.ranks.exists():
        record = ranks.load(folder.ranks)
        console.print(f"ranks, mean {record.mean_rank:.2f} of k = {record.k}:")
        console.print(rank_table(record))
    if folder.metrics.exists():
        result = json.loads(folder.metrics.read_text(encoding="utf-8"))
        # Those of one class ("protein.f1") are in metrics.json and on the report's page.
        values = ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items() if "." not in name)
        lora = result["lora_parameters"]
        size = f"{lora:,} LoRA" if lora else f"{result['trainable_parameters']:,} trainable"
        console.print(
            f"{result['task']} {result['split']}: [bold]{values}[/bold]  "
            f"({size} parameters, {result['seconds']['total']:.0f} s)"
        )
    for label, path in (
        ("ranks", folder.ranks),
        ("adapter", folder.adapter),
        ("merged", folder.merged),
        ("metrics", folder.metrics),
        ("predictions", folder.predictions),
        ("references", folder.references),
        ("report", folder.report),
        ("alpha over steps", folder.trajectory),
    ):
        if path.exists():
            console.print(f"{label:>17}  {path}", highlight=False, soft_wrap=True)


def print_next(request: Request) -> None:
    """A command worth trying after this one, to the terminal."""
    console.print(f"{'next':>17}  {next_command(request)}", highlight=False, soft_wrap=True, style="bold")


def next_command(request: Request) -> str:
    """The command of `print_next`: from the run's own config.yaml, which holds what was said on the command line."""
    name = request.config.name
    begin = f"python run.py --config {shlex.quote(str(Path(request.config.runs_folder) / str(name) / 'config.yaml'))}"
    if request.stage == "search":
        return f"{begin} --stage retrain"
    if request.config.method != "autolora":
        return f"{begin} --name {name}-autolora --method autolora"
    return f"{begin} --name {name}-first-order --hypergradient.type first_order"
