"""The answer to a search: measure the searched model on D_val, choose the ranks by the rule, and write ranks.json."""

import dataclasses
import logging
import shutil
import time
from pathlib import Path
from typing import Any

from autolora.engine import ranks
from autolora.engine.choose.measurement import measured_search
from autolora.engine.disk.files import replacing, write_json
from autolora.engine.export.lora_config import adapter_config, save_lora_config
from autolora.engine.ranks.record import LayerRank, RankRecord, steadiness, steady_layers
from autolora.engine.ranks.rules import rule_of
from autolora.engine.run.program import commit
from autolora.engine.run.records import read_searched
from autolora.engine.run.sources import source_of
from autolora.engine.run.workbench import Workbench
from autolora.engine.search import trajectory
from autolora.engine.search.trajectory import NUMBERS, read_numbers
from autolora.engine.tracking import NOWHERE, Tracker
from autolora.problems.models.names import key_names

log = logging.getLogger("autolora")


def take_over(run: Workbench) -> None:
    """Copies the search and the measurement of the run that `answer.from` names, so that this run no longer reads it.

    The search's summary is copied last, as it marks the search as finished."""
    source, here = source_of(run.config), run.folder
    assert source is not None
    run.begin("search")
    if not run.processes.first:
        return
    files = ("trajectory", "search_metrics", "search_weights", "search_numbers", "measurement", "measured",
             "search_summary")  # fmt: skip
    for name in files:
        there: Path = getattr(source, name)
        if there.exists():
            with replacing(getattr(here, name)) as temporary:
                shutil.copyfile(there, temporary)


def measure(run: Workbench) -> None:
    """Measures a finished search on D_val and writes measure/. All processes must call this.

    A measurement that was interrupted starts again from the finished search. Raises Interrupted if a signal asked to
    stop, UserError for what the user must change.
    """
    began, folder = time.perf_counter(), run.folder
    run.begin("measure")
    record = _unchosen(run, list(read_searched(folder.search_summary)["parameters_per_rank"]))
    if run.processes.first:
        ranks.save(record, folder.measurement)
        write_json(folder.measured, {"seconds": time.perf_counter() - began, "commit": commit()})


def choose(run: Workbench, tracker: Tracker = NOWHERE) -> None:
    """Chooses ranks by the rule from what was measured, writes ranks.json and lora_config/, and tells the `tracker`.

    Raises UserError for what the user must change."""
    folder = run.folder
    searched = read_searched(folder.search_summary)
    record = _with_steadiness(run, ranks.load(folder.measurement))
    chosen = ranks.of_run(rule_of(run.searched.answer, searched["parameters_per_rank"]).choose(record), run.searched)
    run.begin("choose")
    for_trainers = adapter_config(run.searched, chosen, run.kind, searched.get("peft", {}).get("modules_to_save", []))
    for_trainers.fan_in_fan_out = searched.get("peft", {}).get("fan_in_fan_out", False)
    save_lora_config(for_trainers, chosen, folder.lora_config, run.searched)
    ranks.save(chosen, folder.ranks)
    _track(chosen, tracker)


def answer(run: Workbench, tracker: Tracker = NOWHERE) -> None:
    """Measures a finished search, and chooses ranks."""
    measure(run)
    if run.processes.first:
        choose(run, tracker)


def _unchosen(run: Workbench, names: list[str]) -> RankRecord:
    """The record of the search and of what is measured of it, still without ranks. All processes must call this."""
    numbers = read_numbers(run.folder)
    found = measured_search(run, numbers["singular_values"]) if run.searched.answer.rows else None
    columns = {name: numbers[name].double() for name in NUMBERS} | ({} if found is None else found.shares.columns())
    fields: dict[str, list[Any]] = {
        key: [tuple(row) if isinstance(row, list) else row for row in values.tolist()]
        for key, values in columns.items()
    }
    layers = [LayerRank(name, 0, **{key: rows[i] for key, rows in fields.items()}) for i, name in enumerate(names)]
    evidence = None if found is None else found.evidence
    return RankRecord(numbers["alpha"].shape[1], tuple(layers), run.searched.search.constraint, evidence=evidence)


def _with_steadiness(run: Workbench, record: RankRecord) -> RankRecord:
    """The record with the field `decided` of each layer: under rule threshold, whether its rank was steady at the end
    of the search; else None."""
    steady: dict[str, bool] = {}
    if run.searched.answer.rule == "threshold":
        history = trajectory.read(run.folder.trajectory)
        steady = dict(zip(history.names, steady_layers(history.alpha, record.constraint), strict=True))
    layers = tuple(dataclasses.replace(layer, decided=steady.get(layer.name)) for layer in record.layers)
    found = dataclasses.replace(record, layers=layers)
    if words := steadiness(found):
        log.info("ranks: %s", words)
    return found


def _track(record: RankRecord, tracker: Tracker) -> None:
    """Sends the chosen rank of every layer and their mean; if they were measured, also the gain, the sufficient rank,
    the share of every layer, and the curve as a chart and a table. docs/wandb.md describes it for users."""
    if not tracker.alive:
        return
    keys, evidence = key_names([layer.name for layer in record.layers]), record.evidence
    values: dict[str, float] = {f"answer/rank/{key}": x.rank for key, x in zip(keys, record.layers, strict=True)}
    values["answer/mean_rank"] = record.mean_rank
    if evidence is None:
        tracker.log(values)
        return
    values |= {f"answer/{name}": getattr(evidence, name) for name in ("gain", "gain_standard_error", "share_total")}
    enough = evidence.sufficient_rank(record.tolerance)
    if enough is not None:
        values["answer/sufficient_rank"] = enough
    shares = {key: layer.layer_share for key, layer in zip(keys, record.layers, strict=True)}
    tracker.log(values | {f"share/{key}": share for key, share in shares.items() if share is not None})
    if evidence.learned:  # of a gain that is noise there are no parts
        kept = {"part of the gain that is kept": [point.kept for point in evidence.rank_curve]}
        tracker.lines("answer/same_rank_in_every_layer", [int(point.at) for point in evidence.rank_curve], kept)
    named = [(f"rank {point.at:g}", point) for point in evidence.rank_curve]
    named += [(f"budget {point.at:g} by {evidence.budget_rule}", point) for point in evidence.budget_curve]
    columns = ["cut", "LoRA parameters", "loss", "standard error", "kept", "its standard error"]
    rows = [[name, x.parameters, x.loss, x.standard_error, x.kept, x.kept_standard_error] for name, x in named]
    tracker.table("answer/curve", columns, rows)
    tracker.table(
        "answer/shares",
        ["layer", "rank", "share, nats", "its standard error"],
        [[x.name, x.rank, x.layer_share, x.layer_share_standard_error] for x in record.layers],
    )
