"""The page of a run, from nothing but the files of its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from autolora.configs.files import to_yaml
from autolora.configs.schema import Autolora, RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import read_json
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.record import steadiness
from autolora.engine.report import figures
from autolora.engine.report.answer import answer_sections
from autolora.engine.report.findings import caution, conclusion, how_chosen
from autolora.engine.report.page import Section, write_page
from autolora.engine.report.summary import arms_of
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.logged import warnings_in
from autolora.engine.run.records import (
    parameters_per_rank,
    read_result,
    read_samples,
    read_searched,
    read_verdict,
)
from autolora.engine.search import trajectory
from autolora.engine.tracking.metrics_file import MetricsFile
from autolora.engine.tracking.picture import rank_map

_PAIRS = (
    "A pair trains the learned ranks, and the same ranks in other layers, with the same random numbers. Where a point "
    "is above 0, the learned ranks had the lower loss on the held-out rows."
)


_DISTANCE = (
    "Cosine and norm ratio compare the implicit term with that of exact (a step of gradient descent), the step "
    "cosine compares it with that of exact_adamw (the AdamW step that was taken). The total cosine is that of the "
    "whole outer gradient to that of exact, the last column the size of the implicit term divided by that of the "
    "direct one. All columns without a step are means over the steps."
)
_STEP_COST = (
    "The row lora is as many plain LoRA steps as an outer step has inner steps. Seconds are of the median round. "
    "Memory is the peak of a step beyond what the search holds between steps (model, optimisers)."
)


def write_report(config: RunConfig, folder: RunFolder) -> dict[str, Path]:
    """Writes report.html and figures/*.png, with the sections of the stages that have run; returns the pictures by
    their names. Raises UserError that names a damaged file."""
    per_rank = parameters_per_rank(folder)
    record = ranks.counted(ranks.load(folder.ranks), per_rank) if folder.ranks.exists() else None
    sections = [*_of_result(folder, record), *_of_search(folder, record, sum(per_rank.values())), *_of_cost(folder)]
    sections += _of_probe(folder)
    settings = folder.config.read_text(encoding="utf-8") if folder.config.exists() else to_yaml(config)
    return write_page(folder.report, str(config.name), _sentence(config, record), sections, settings)


def _sentence(config: RunConfig, record: RankRecord | None) -> str:
    """The model, the task, the method, and the mean rank."""
    told = f"{config.model.name} on {config.task.result_name}, method {config.method}"
    if isinstance(config, Autolora):
        told += f", hypergradient {config.hypergradient.type}"
    return f"{told}." if record is None else f"{told}: {len(record.layers)} layers, mean rank {record.mean_in_words}."


def _of_result(folder: RunFolder, record: RankRecord | None) -> Iterator[Section]:
    """The result, samples, and the verdict."""
    result = read_result(folder.metrics)
    note = [record.note] if record and record.note else []
    facts = pd.DataFrame(_facts(result), columns=["what", "value"]) if result else None
    yield Section("Result", facts, "\n".join([*note, *(f"Warning: {line}" for line in warnings_in(folder))]))
    if samples := read_samples(folder.samples):
        prompts = ["\n".join(f"{turn['role']}: {turn['content']}" for turn in one["prompt"]) for one in samples]
        table = pd.DataFrame(samples)[["answer", "reference"]]
        table.insert(0, "prompt", prompts)
        yield Section("What the model answers", table)
    if verdict := read_verdict(folder.verdict_summary):
        yield _verdict(verdict)


def _facts(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "evaluated on", result.get("evaluated_on") or f"{result['task']}, {result['split']}"
    if result.get("evaluated_rows"):
        yield "rows", f"{result['evaluated_rows']:,}"
    error = result.get("standard_error")
    for number, (name, value) in enumerate(result["metrics"].items()):
        yield name, f"{value:.4f}" + (f" +- {error:.4f}" if error and number == 0 else "")
    if result.get("loss") is not None:
        yield "loss", f"{result['loss']:z.4f}"
    yield "LoRA parameters", f"{result['lora_parameters']:,}"
    yield "trainable parameters", f"{result['trainable_parameters']:,}"
    yield "seed", str(result["seed"])
    yield "peak memory, MiB", f"{result['peak_memory_mib']:,.0f}"
    made_with = (result.get("machine") or {}) | {"commit": result.get("commit")} | result.get("versions", {})
    yield "made with", ", ".join(f"{name} {value}" for name, value in made_with.items() if value)


def _verdict(found: dict[str, Any]) -> Section:
    said, title = [found["sentence"], *found["notes"], found["recommendation"]], "Do the places of the ranks matter?"
    if not found.get("arms"):
        return Section(title, note="\n".join(said))
    drawn, note = figures.pairs(found["arms"], found["interval"]), "\n".join([*said, _PAIRS])
    return Section(title, pd.DataFrame(arms_of(found)), note, drawn, "verdict")


def _of_search(folder: RunFolder, record: RankRecord | None, per_rank: int) -> Iterator[Section]:
    """The ranks, why they were chosen, and how alpha and the losses moved."""
    if record is not None:
        said = "\n".join(filter(None, (conclusion(record), caution(record))))
        yield from answer_sections(record, lambda rank: int(rank * per_rank) or None, said)
        how = how_chosen(record, per_rank)
        said = "\n".join(filter(None, (how and f"ranks {how}", steadiness(record))))
        yield Section("Ranks", None, said, rank_map(record), "ranks")
        if folder.trajectory.exists():
            history = trajectory.read(folder.trajectory)
            panels = figures.alpha(history, record.constraint, bounded=record.rule == "threshold")
            note = "Dashed: lambda, which chose the ranks." if record.rule == "threshold" else ""
            yield Section("alpha over the search", None, note, panels, "alpha")
    search, retraining = MetricsFile(folder.search_metrics).read(), MetricsFile(folder.retrain_metrics).read()
    losses = {"train_loss": "L_tr (D_tr)", "val_loss": "L_val (D_val)"}
    size = {"implicit_to_direct": "|implicit| / |direct|"}
    for title, name, drawn in (
        ("Losses of the search", "losses", figures.over_steps(search, losses)),
        ("Size of the hypergradient's implicit term", "hypergradient", figures.over_steps(search, size, "log")),
        ("Cosine of the implicit and the direct term", "cosine", figures.over_steps(search, {"cosine": "cosine"})),
        ("Loss of the retraining", "retrain_loss", figures.over_steps(retraining, {"loss": "training loss"})),
    ):
        if drawn is not None:
            yield Section(title, None, "", drawn, name)


def _of_cost(folder: RunFolder) -> Iterator[Section]:
    """What each stage cost, and the layers one by one."""
    result, search = read_result(folder.metrics), read_searched(folder.search_summary)
    answer = read_json(folder.measured)
    seconds = {"search": search.get("seconds"), "answer": answer.get("seconds")} | result.get("seconds", {})
    seconds |= {"sweep": result.get("seconds_sweep"), "evaluation": result.get("seconds_evaluation")}
    steps = {"search": search.get("steps")} | result.get("steps", {})
    rows = [(stage, f"{spent:,.1f}", steps.get(stage) or "") for stage, spent in seconds.items() if spent]
    if rows:
        said = [f"{count:,} {kind} passes in the search" for kind, count in search.get("passes", {}).items()]
        said += [f"the search ended with: {search['stopped']}"] if search.get("stopped") else []
        yield Section("Cost", pd.DataFrame(rows, columns=["stage", "seconds", "steps"]), "\n".join(said))
    if folder.ranks.exists():
        layers = ranks.load(folder.ranks).layers
        alphas = ["  ".join(f"{alpha:.3f}" for alpha in layer.alpha) for layer in layers]
        table = pd.DataFrame({"layer": [x.name for x in layers], "rank": [x.rank for x in layers], "alpha": alphas})
        yield Section("Layers", table)


def _of_probe(folder: RunFolder) -> Iterator[Section]:
    """How near each hypergradient is to the exact one, and what its outer step costs."""
    if not folder.probe_result.exists():
        return
    found = read_json(folder.probe_result)
    rows, key = pd.DataFrame(found["distance"]), ["approximation", "eta"]
    at = rows.pivot(index=key, columns="step", values="cosine").add_prefix("cosine at step ")
    means = rows.groupby(key, sort=False)[["step_cosine", "norm_ratio", "total_cosine", "implicit_to_direct"]].mean()
    distance = means.join(at)[[*at, *means]].reset_index()
    yield Section("Distance of each hypergradient to the exact one-step unroll (Eq. 4)", _spaced(distance), _DISTANCE)
    on = ", ".join(f"{name} {value}" for name, value in found["on"].items())
    yield Section("Cost of one outer step", _spaced(pd.DataFrame(found["cost"])), f"{_STEP_COST} Measured on: {on}.")


def _spaced(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns=lambda name: name.replace("_", " ").replace("mib", "MiB"))
