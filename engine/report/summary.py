"""The last words of a run: its ranks, its result, where its files are and what to try next."""

import shlex

from rich.text import Text

from configs.requests import Request
from engine import ranks
from engine.run.contents import read_result
from engine.run.folder import RunFolder
from engine.terminal.console import console
from engine.terminal.rank_map import RankMap

RESULT_KEYS = ("task", "split", "metrics", "lora_parameters", "trainable_parameters", "seconds")
"""The keys of metrics.json that the last words need."""


def print_result(folder: RunFolder) -> None:
    """Prints the ranks, the metrics and the paths of a run folder."""
    if folder.ranks.exists():
        record = ranks.load(folder.ranks)
        console.print(f"ranks, mean {record.mean_rank:.2f} of k = {record.k}:")
        console.print(RankMap([x.name for x in record.layers], record.k, [x.rank for x in record.layers]))
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
    written = [folder.ranks, folder.adapter, folder.merged, folder.metrics, folder.predictions, folder.references]
    for path in (*written, folder.report, folder.trajectory):
        label = "alpha over steps" if path == folder.trajectory else path.stem
        if path.exists():
            console.print(f"{label:>17}  {path}", highlight=False, soft_wrap=True)


def print_next(request: Request) -> None:
    """Prints a command worth trying after this one."""
    console.print(f"{'next':>17}  {next_command(request)}", highlight=False, soft_wrap=True, style="bold")


def next_command(request: Request) -> str:
    """The command that `print_next` prints. It starts from the run's config.yaml, in which the command line's options
    are too."""
    name = request.config.name
    begin = f"python run.py --config {shlex.quote(str(RunFolder.of(request.config).config))}"
    if request.stage == "search":
        return f"{begin} --stage retrain"
    if request.config.method != "autolora":
        return f"{begin} --name {name}-autolora --method autolora"
    return f"{begin} --name {name}-first-order --hypergradient.type first_order"
