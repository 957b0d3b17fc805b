"""The page of a run, from nothing but the files of its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from autolora.configs.files import to_yaml
from autolora.configs.schema import Autolora, RunConfig
from autolora.engine import ranks
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.picture import rank_map
from autolora.engine.ranks.words import caution, conclusion, how_chosen, steadiness
from autolora.engine.report import figures
from autolora.engine.report.answer import answer_sections
from autolora.engine.report.page import Section, write_page
from autolora.engine.report.words import arms_of
from autolora.engine.run.contents import (
    parameters_per_rank,
    read_answer,
    read_result,
    read_samples,
    read_searched,
    read_verdict,
)
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.logged import warnings_in
from autolora.engine.search import trajectory
from autolora.engine.tracking.metrics_file import MetricsFile

_PAIRS = (
    "A pair trains the learned ranks, and the same ranks in other layers, with the same random numbers. Where a point "
    "is above 0, the learned ranks had the lower loss on the held-out rows."
)
_SUREST, _LONGEST, _MOST_CLASSES, _MOST_COLUMNS = 5, 300, 50, 12


def write_report(config: RunConfig, folder: RunFolder) -> dict[str, Path]:
    """Writes report.html and figures/*.png, with the sections of the stages that have run; returns the pictures by
    their names. Raises UserError that names a damaged file."""
    per_rank = parameters_per_rank(folder)
    record = ranks.counted(ranks.load(folder.ranks), per_rank) if folder.ranks.exists() else None
    sections = [*_of_result(folder, record), *_of_search(folder, record, sum(per_rank.values())), *_of_cost(folder)]
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


def _predicted(found: pd.DataFrame) -> Iterator[Section]:
    """A classifier class by class, the most frequent ones, and its surest errors."""
    from sklearn.metrics import precision_recall_fscore_support  # here: it takes a second to import

    names = found["label"].value_counts().index[:_MOST_CLASSES]
    scores = precision_recall_fscore_support(found["label"], found["predicted"], labels=names, zero_division=0)
    classes = pd.DataFrame(dict(zip(("precision", "recall", "f1", "rows"), scores, strict=True)), index=names)
    if found["predicted"].nunique() <= _MOST_COLUMNS:
        classes = classes.join(pd.crosstab(found["label"], found["predicted"]).add_prefix("taken for "))
    yield Section("What was predicted, class by class", classes.rename_axis("class").reset_index())
    wrong = found.assign(probability=found["probability"].astype(float))[found["label"] != found["predicted"]]
    if len(wrong):
        shown = wrong.nlargest(_SUREST, "probability")
        texts = shown.drop(columns="probability").apply(lambda column: column.str.slice(0, _LONGEST))
        table = texts.assign(probability=shown["probability"])
        yield Section("The surest errors", table, "Look here first for wrong labels.")


def _verdict(found: dict[str, Any]) -> Section:
    arms = found.get("arms", [])
    said = "\n".join([found["sentence"], *found.get("notes", []), found["recommendation"]])
    if not arms:
        return Section("Do the places of the ranks matter?", note=said)
    drawn = figures.pairs(arms, found.get("interval"))
    return Section(
        "Do the places of the ranks matter?", pd.DataFrame(arms_of(found)), f"{said}\n{_PAIRS}", drawn, "verdict"
    )


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
    implicit, cosine = {"implicit_to_direct": "|implicit| / |direct|"}, {"cosine": "cosine of implicit and direct"}
    losses = {"train_loss": "L_tr (D_tr)", "val_loss": "L_val (D_val)"}
    for title, name, drawn in (
        ("Losses of the search", "losses", figures.over_steps(search, losses)),
        ("Hypergradient", "hypergradient", figures.over_steps(search, implicit, cosine, log=True)),
        ("Loss of the retraining", "retrain_loss", figures.over_steps(retraining, {"loss": "training loss"})),
    ):
        if drawn is not None:
            yield Section(title, None, "", drawn, name)


def _of_cost(folder: RunFolder) -> Iterator[Section]:
    """What was predicted, what each stage cost, and the layers one by one."""
    if folder.predicted_rows.exists():
        predicted = pd.read_csv(folder.predicted_rows, dtype=str, keep_default_na=False)
        if "probability" in predicted:
            yield from _predicted(predicted)
    result, search = read_result(folder.metrics), read_searched(folder.search_summary)
    answer = read_answer(folder.answer)
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
