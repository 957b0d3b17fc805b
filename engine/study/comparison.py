"""Compare all hypergradient approximations at the same states of one search."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch

from autolora.configs import layers
from autolora.configs.count_words import counted
from autolora.configs.schema import Autolora, RunConfig
from autolora.configs.search import BUILT_IN, OwnHypergradient
from autolora.engine.disk.files import write_json
from autolora.engine.disk.tables import read_parquet, write_parquet
from autolora.engine.run.contents import read_compared
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.resources import computed_on
from autolora.engine.run.resuming import Outdated, Settings
from autolora.engine.search.engine import SearchEngine
from autolora.engine.search.probe import Compared, Eta, Probe, measure_cost
from autolora.engine.search.settings import UNFINISHED
from autolora.engine.search.stage import build_search
from autolora.engine.study.cells import expand
from autolora.engine.study.folder import AskedOfStudy, StudyFolder
from autolora.engine.study.own_hypergradients import own_hypergradients
from autolora.problems.hypergradients import Hypergradient, approximation

log = logging.getLogger("autolora")

COMPARED = Settings((*UNFINISHED.read, "study.probe"))
"""The keys of a search, and those of the comparison: its steps, etas and timed steps."""


def refuse_changed_probe(asked: AskedOfStudy) -> None:
    """Refuses to keep a comparison in the study's folder that was made under other settings, or without one of the
    user's own approximations with which the study's cells search now."""
    folder, config = asked.folder, asked.config
    if not folder.probe.exists():
        return
    made = read_compared(folder.probe_settings)
    again = f"remove {folder.probe} to make the comparison again"
    holds = f"{folder.root} holds a comparison of hypergradients"
    COMPARED.refuse_changed(made.get("settings", {}), config, f"{holds} with", f"give the old value, or {again}")
    if made.get("numbers", {}) != _numbers(config):
        raise Outdated(f"--hypergradient: {holds} with {made.get('numbers', {})}, now {_numbers(config)}; {again}")
    missing = [name for name in _own(config, folder) if name not in made.get("own", [])]
    if missing and _compares(config):
        raise Outdated(f"--hypergradient.type: {holds} without {missing[0]}; {again}")


def _compares(config: RunConfig) -> bool:
    """Whether the study makes a search of its own, along which hypergradients are compared."""
    return isinstance(config, Autolora) and config.answer.from_run is None and config.studied.probe is not None


def _own(config: RunConfig, folder: StudyFolder) -> dict[str, OwnHypergradient]:
    """The user's own approximations with which the study's cells, or the comparison's own search, search."""
    return own_hypergradients([*(cell.config for cell in expand(config, folder)), config])


def data_of_probe(folder: StudyFolder) -> dict[str, Any]:
    """The fingerprint of the rows, and the digest of the base model, with which the comparison in the study's folder
    was made; empty if there is none. It has no evaluation rows, as the comparison reads none. Raises UserError, as the
    other functions here, if the file that holds it is damaged."""
    found: dict[str, Any] = (read_compared(folder.probe_settings).get("data") or {}) if folder.probe.exists() else {}
    return {part: value for part, value in found.items() if not part.startswith("evaluation")}


class Comparison(NamedTuple):
    """How close each approximation is to the exact hypergradient, and what its outer step costs: two tables.

    `timed_on`: what the cost was measured on, in words; "" if it is not known."""

    probe: pd.DataFrame
    cost: pd.DataFrame
    timed_on: str = ""


def read_comparison(folder: StudyFolder) -> Comparison | None:
    """The comparison in a study's folder; None if there is none, or if it was stopped before it had measured the cost.
    Raises UserError that names the file when one is damaged."""
    if not (folder.probe.exists() and folder.cost.exists()):
        return None
    way_out = "remove the file, and the study's command makes the comparison again"
    return Comparison(
        read_parquet(
            folder.probe,
            way_out,
            texts=["approximation", "eta"],
            numbers=["step", "cosine", "step_cosine", "norm_ratio", "total_cosine", "implicit_to_direct"],
        ),
        read_parquet(folder.cost, way_out, texts=["approximation"], numbers=["ratio_to_lora"]),
        str(read_compared(folder.probe_settings).get("timed_on", "")),
    )


def _timed_on(run: Context) -> str:
    """What the costs are measured on: device, precision, batch, and the attention kernel of second derivatives."""
    on = computed_on(run.compute)
    named = f"{on['device']} ({on['name']})" if on["name"] else on["device"]
    threads = f", {counted(torch.get_num_threads(), 'thread')}" if on["device"] == "cpu" else ""
    return (
        f"{named}{threads}, arithmetic {on['precision']}, batches of {run.searched.search.batch_size}, eager "
        f"attention for all (second derivatives need it; a search by one of the others uses a faster kernel)"
    )


def _numbers(config: RunConfig) -> dict[str, Any]:
    """The radius and the terms that the study has for types which the comparison's own search has not."""
    others, known = config.studied.others, ("hypergradient.radius", "hypergradient.terms")
    return {key.removeprefix("hypergradient."): others[key] for key in known if key in others}


def _compared(config: RunConfig, own: Mapping[str, OwnHypergradient], eta: float | str) -> dict[str, Hypergradient]:
    """All approximations at this eta, the user's own among them."""
    own_keys = config.hypergradient.model_dump() if isinstance(config, Autolora) else {}
    given = own_keys | _numbers(config) | {"eta": eta}
    ours = {
        name: kind.model_validate({k: v for k, v in given.items() if k in kind.model_fields and k != "type"})
        for name, kind in BUILT_IN.items()
        if kind.moves_alpha
    }
    return {name: approximation(settings) for name, settings in {**ours, **own}.items()}


def run_probe(config: RunConfig, folder: StudyFolder, stop: StopRequest) -> None:
    """Compares all approximations along one search, the user's own among them; writes probe.parquet and cost.parquet,
    unless both exist. Compares nothing in a study that copies another run's search, as such a study makes no search of
    its own."""
    settings = config.studied.probe
    if settings is None or not _compares(config) or (folder.probe.exists() and folder.cost.exists()):
        return
    log.info("probe: comparing all approximations with the exact one-step unroll at steps %s", settings.steps)
    last = max(settings.steps)
    probed = layers.with_values(config.model_copy(update={"study": None}), {"tracking.wandb": "disabled"})
    run = Context(probed, stop)
    own = _own(config, folder)
    engine = build_search(run, second_order=True)
    compared: dict[Eta, Compared] = {eta: _compared(config, own, eta) for eta in settings.etas}
    probe = Probe(engine.selection.hypergradient, settings.steps, compared)
    engine.selection.hypergradient = probe
    engine.train_iters, engine.settled.patience = last, 0

    def after_step(engine: SearchEngine, over: bool) -> None:
        stop.check()
        if engine.global_step in settings.steps:
            log.info("probe: compared at step %d of %d", engine.global_step, last)

    engine.run(after_step)
    made = {"settings": COMPARED.of(config), "numbers": _numbers(config), "own": list(own)}
    write_json(folder.probe_settings, made | {"data": run.fingerprint, "timed_on": _timed_on(run)})
    write_parquet(folder.probe, pd.DataFrame(probe.rows))
    log.info("probe: timing a step of each approximation, %s", counted(settings.timed_steps, "round"))
    costs = measure_cost(engine, settings.timed_steps, _compared(config, own, settings.etas[0]))
    write_parquet(folder.cost, pd.DataFrame(costs))
