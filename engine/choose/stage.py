"""Measure the searched model on D_val, choose the ranks by the rule, and write ranks.json."""

import shutil
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from autolora.engine import ranks
from autolora.engine.choose.measurement import measured_search
from autolora.engine.disk.files import read_json, replacing, write_json
from autolora.engine.export.lora_config import adapter_config, save_lora_config
from autolora.engine.ranks.record import LayerRank, RankRecord
from autolora.engine.ranks.rules import rule_of
from autolora.engine.run.context import Context
from autolora.engine.search.trajectory import NUMBERS
from autolora.engine.store.sources import source_of
from autolora.engine.tracking import NOWHERE, Tracker


def take_over(run: Context) -> None:
    """Copies the search and the measurement of the run that `measure.from` names, so that this run
    no longer reads it.

    The search's summary is copied last, as it marks the search as finished."""
    source = source_of(run.config)
    here = run.folder
    assert source is not None
    run.begin("search")
    if not run.processes.first:
        return
    files = (
        "trajectory",
        "search_metrics",
        "search_weights",
        "search_numbers",
        "measurement",
        "measured",
        "search_summary",
    )
    for name in files:
        there: Path = getattr(source, name)
        if there.exists():
            with replacing(getattr(here, name)) as temporary:
                shutil.copyfile(there, temporary)


def measure(run: Context) -> None:
    """Measures a finished search on D_val and writes measure/. All processes must call this.

    A measurement that was interrupted starts again from the finished search. Raises Interrupted if
    a signal asked to stop, UserError for what the user must change.
    """
    began = time.perf_counter()
    folder = run.folder
    run.begin("measure")
    record = _unchosen(run, list(read_json(folder.search_summary)["parameters_per_rank"]))
    if run.processes.first:
        ranks.save(record, folder.measurement)
        write_json(folder.measured, {"seconds": time.perf_counter() - began})


def choose(run: Context, tracker: Tracker = NOWHERE) -> None:
    """Chooses ranks by the rule from what was measured, writes ranks.json and lora_config/, and
    tells the `tracker`.

    Raises UserError for what the user must change."""
    folder = run.folder
    searched = read_json(folder.search_summary)
    record = ranks.load(folder.measurement)
    chosen = ranks.of_run(
        rule_of(run.searched.choose, searched["parameters_per_rank"]).choose(record), run.searched
    )
    run.begin("choose")
    for_trainers = adapter_config(
        run.searched, chosen, run.kind, searched.get("peft", {}).get("modules_to_save", [])
    )
    for_trainers.fan_in_fan_out = searched.get("peft", {}).get("fan_in_fan_out", False)
    save_lora_config(for_trainers, chosen, folder.lora_config, run.searched)
    ranks.save(chosen, folder.ranks)
    _track(chosen, tracker)


def measure_and_choose(run: Context, tracker: Tracker = NOWHERE) -> None:
    """Measures a finished search, and chooses ranks."""
    measure(run)
    if run.processes.first:
        choose(run, tracker)


def _unchosen(run: Context, names: list[str]) -> RankRecord:
    """The record of the search and of what is measured of it, still without ranks. All processes
    must call this."""
    numbers = load_file(run.folder.search_numbers)
    found = measured_search(run, numbers["singular_values"]) if run.searched.measure.rows else None
    columns = {name: numbers[name].double() for name in NUMBERS} | (
        {} if found is None else found.shares.columns()
    )
    fields: dict[str, list[Any]] = {
        key: [tuple(row) if isinstance(row, list) else row for row in values.tolist()]
        for key, values in columns.items()
    }
    layers = [
        LayerRank(name, 0, **{key: rows[i] for key, rows in fields.items()})
        for i, name in enumerate(names)
    ]
    evidence = None if found is None else found.evidence
    return RankRecord(
        numbers["alpha"].shape[1], tuple(layers), run.searched.search.constraint, evidence=evidence
    )


def _track(record: RankRecord, tracker: Tracker) -> None:
    """Sends the chosen ranks; if they were measured, also the gain, the sufficient rank, the
    shares, and the curve. docs/run-folder.md describes it for users."""
    values: dict[str, float] = {"choose/mean_rank": record.mean_rank}
    if (evidence := record.evidence) is not None:
        values |= {
            f"measure/{name}": getattr(evidence, name)
            for name in ("gain", "gain_standard_error", "share_total")
        }
        if (enough := evidence.sufficient_rank(record.tolerance)) is not None:
            values["choose/sufficient_rank"] = enough
        named = [(f"rank {point.at:g}", point) for point in evidence.rank_curve]
        named += [
            (f"budget {point.at:g} by {evidence.budget_rule}", point)
            for point in evidence.budget_curve
        ]
        columns = ["cut", "LoRA parameters", "loss", "standard error", "kept", "its standard error"]
        rows = [
            [name, x.parameters, x.loss, x.standard_error, x.kept, x.kept_standard_error]
            for name, x in named
        ]
        tracker.table("measure/curve", columns, rows)
    tracker.log(values)
    layers = [[x.name, x.rank, x.layer_share, x.layer_share_standard_error] for x in record.layers]
    tracker.table("choose/ranks", ["layer", "rank", "share, nats", "its standard error"], layers)
