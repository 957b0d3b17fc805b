"""The answer to a search: measure the searched model on D_val, choose the ranks by the rule, and write ranks.json."""

import dataclasses
import logging
import time
from typing import Any

from autolora.engine import ranks
from autolora.engine.choose.measurement import measured_search
from autolora.engine.choose.reuse import ANSWERED, take_over
from autolora.engine.disk.files import write_json
from autolora.engine.export.lora_config import adapter_config, save_lora_config
from autolora.engine.ranks.grid import key_names
from autolora.engine.ranks.record import LayerRank, RankRecord
from autolora.engine.ranks.rules import rule_of
from autolora.engine.ranks.threshold import steady_layers
from autolora.engine.ranks.words import steadiness
from autolora.engine.run.contents import read_answer, read_searched
from autolora.engine.run.program import commit
from autolora.engine.run.same_data import refuse_changed_data
from autolora.engine.run.workbench import Workbench
from autolora.engine.search import trajectory
from autolora.engine.search.found import NUMBERS, read_numbers
from autolora.engine.search.stage import search
from autolora.engine.tracking import NOWHERE, Tracker

log = logging.getLogger("autolora")


def find_ranks(run: Workbench, tracker: Tracker = NOWHERE) -> None:
    """Searches, or copies the search of `answer.from`, then measures the answer and writes ranks.json.

    A finished search is not repeated. All processes must call this. Raises Interrupted if a signal asked to stop,
    UserError for what the user must change.
    """
    if not run.processes.of_first(run.folder.search_summary.exists):
        if run.searched.answer.from_run is None:
            search(run, tracker)
        else:
            take_over(run)
        run.processes.wait()
    run.compute.let_go()
    answer(run, tracker)


def answer(run: Workbench, tracker: Tracker = NOWHERE) -> None:
    """Measures a finished search on D_val, writes search/answer.json and ranks.json, and tells the `tracker`.

    An answer that was interrupted starts again from the finished search. All processes must call this. Raises
    Interrupted if a signal asked to stop, UserError for what the user must change.
    """
    began, folder, settings = time.perf_counter(), run.folder, run.searched.answer
    searched = read_searched(folder.search_summary)
    # If the data has changed since the search, rows of D_tr could now be in D_val.
    refuse_changed_data(run, searched.get("data", {}), evaluated=False)
    sizes, earlier = searched["parameters_per_rank"], 0.0
    if settings.from_run is None:
        record = _unchosen(run, list(sizes))
    else:
        record, earlier = ranks.load(folder.source_ranks), read_answer(folder.source_answer).get("seconds", 0.0)
    if not run.processes.first:
        return
    chosen = ranks.of_run(rule_of(settings, sizes).choose(_with_steadiness(run, record)), run.searched)
    seconds = earlier + time.perf_counter() - began
    run.begin()  # the search may have been made by an earlier command, with other settings of the answer
    write_json(folder.answer, {"settings": ANSWERED.of(run.config), "seconds": seconds, "commit": commit()})
    for_trainers = adapter_config(run.searched, chosen, run.kind, searched.get("peft", {}).get("modules_to_save", []))
    for_trainers.fan_in_fan_out = searched.get("peft", {}).get("fan_in_fan_out", False)
    save_lora_config(for_trainers, chosen, folder.lora_config, run.searched)
    ranks.save(chosen, folder.ranks)
    _track(chosen, tracker)


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
