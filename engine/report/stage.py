"""The page of a run, from nothing but the files of its folder."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from autolora.configs.files import to_yaml
from autolora.configs.schema import Autolora, RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import read_json, read_json_lines
from autolora.engine.ranks import RankRecord
from autolora.engine.report import figures
from autolora.engine.report.findings import conclusion, ranks_words
from autolora.engine.report.measured import measured_sections
from autolora.engine.report.page import Section, write_page
from autolora.engine.search.searched import Trajectory
from autolora.engine.store.folder import RunFolder
from autolora.engine.tracking.picture import rank_map

_FACTS = (
    "standard_error",
    "loss",
    "evaluated_rows",
    "lora_parameters",
    "trainable_parameters",
    "learning_rate",
    "seed",
    "peak_memory_mib",
    "commit",
)
"""What the page tells of metrics.json, beside the metrics and what each stage cost."""
_PAIRS = (
    "A pair trains the learned ranks, and the same ranks in other layers, with the same "
    "random numbers. Where a point is above 0, the learned ranks had the lower loss on the "
    "held-out rows."
)
_DISTANCE = (
    "Means over the compared steps. Cosine and norm ratio compare the implicit term with that "
    "of exact (a step of gradient descent), the step cosine with that of exact_adamw (the "
    "AdamW step that was taken). The total cosine is that of the whole outer gradient to that "
    "of exact."
)


def write_report(config: RunConfig, folder: RunFolder) -> dict[str, Path]:
    """Writes report.html and figures/*.png, with the sections of the stages that have run; returns
    the pictures by their names. Raises UserError that names a damaged file."""
    result = read_json(folder.metrics)
    told = f"{config.model.name} on {config.task.result_name}, method {config.method}"
    if isinstance(config, Autolora):
        told += f", hypergradient {config.hypergradient.type}"
    record = ranks.load(folder.ranks) if folder.ranks.exists() else None
    if record is not None:
        told += f": {len(record.layers)} layers, mean rank {record.mean_in_words}"
    sections = [
        *_of_result(folder, result),
        *_of_ranks(folder, record),
        *_of_losses(folder),
        *_of_probe(folder),
    ]
    settings = (
        folder.config.read_text(encoding="utf-8") if folder.config.exists() else to_yaml(config)
    )
    return write_page(folder.report, str(config.name), f"{told}.", sections, settings)


def _of_result(folder: RunFolder, result: dict[str, Any]) -> Iterator[Section]:
    """The result, samples, and the verdict."""
    if result:
        facts = result["metrics"] | {key: result.get(key) for key in _FACTS}
        told = [
            (name.replace("_", " "), value) for name, value in facts.items() if value is not None
        ]
        yield Section("Result", pd.DataFrame(told, columns=["what", "value"]))
        spent = result["seconds"]
        steps = result["steps"]
        cost = [
            (stage, seconds, steps.get(stage) or "") for stage, seconds in spent.items() if seconds
        ]
        yield Section("Cost", pd.DataFrame(cost, columns=["stage", "seconds", "steps"]))
    if samples := read_json_lines(folder.samples):
        table = pd.DataFrame(samples)[["prompt", "answer", "reference"]]
        as_text = table["prompt"].map(
            lambda turns: "\n".join(f"{one['role']}: {one['content']}" for one in turns)
        )
        yield Section("What the model answers", table.assign(prompt=as_text))
    if verdict := read_json(folder.verdict_summary):
        arms = verdict["arms"]
        said = f"{verdict['sentence']}\n{verdict['recommendation']}\n{_PAIRS}"
        table = pd.DataFrame(
            {
                "ranks": [arm["name"] for arm in arms],
                "LoRA parameters": [arm["parameters"] for arm in arms],
                "mean loss": [fmean(arm["losses"]) for arm in arms],
                verdict["metric"]: [fmean(arm["scores"]) for arm in arms],
            }
        )
        drawn = figures.pairs(arms, verdict["interval"])
        yield Section("Do the places of the ranks matter?", table, said, drawn, "verdict")


def _of_ranks(folder: RunFolder, record: RankRecord | None) -> Iterator[Section]:
    """The ranks, why they were chosen, and how alpha moved."""
    if record is None:
        return
    yield from measured_sections(record, conclusion(record))
    said = f"{ranks_words(record)}\n{record.note or ''}"
    table = pd.DataFrame(record.ranks.items(), columns=["layer", "rank"])
    yield Section("Ranks", table, said, rank_map(record), "ranks")
    if folder.trajectory.exists():
        history = Trajectory.read(folder.trajectory)
        bounded = record.rule == "threshold"
        note = "Dashed: lambda, which chose the ranks." if bounded else ""
        drawn = figures.alpha(history, record.constraint, bounded=bounded)
        yield Section("alpha over the search", None, note, drawn, "alpha")


def _of_losses(folder: RunFolder) -> Iterator[Section]:
    """What was logged over the steps."""
    search = read_json_lines(folder.search_metrics)
    retraining = read_json_lines(folder.retrain_metrics)
    for title, name, points, lines, scale in (
        (
            "Losses of the search",
            "losses",
            search,
            {"train_loss": "L_tr (D_tr)", "val_loss": "L_val (D_val)"},
            "linear",
        ),
        (
            "Size of the hypergradient's implicit term",
            "hypergradient",
            search,
            {"implicit_to_direct": "|implicit| / |direct|"},
            "log",
        ),
        (
            "Cosine of the implicit and the direct term",
            "cosine",
            search,
            {"cosine": "cosine"},
            "linear",
        ),
        ("Loss of the retraining", "retrain_loss", retraining, {"loss": "training loss"}, "linear"),
    ):
        if (drawn := figures.over_steps(points, lines, scale)) is not None:
            yield Section(title, figure=drawn, name=name)


def _of_probe(folder: RunFolder) -> Iterator[Section]:
    """How near each hypergradient is to the exact one."""
    if not (found := read_json(folder.probe_result)):
        return
    distance = (
        pd.DataFrame(found["distance"])
        .drop(columns="step")
        .groupby(["approximation", "eta"], sort=False)
    )
    yield Section(
        "Distance of each hypergradient to the exact one-step unroll (Eq. 4)",
        distance.mean().reset_index(),
        _DISTANCE,
    )
