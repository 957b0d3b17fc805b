"""The comparison of all hypergradient approximations, from one trained state each time."""

from __future__ import annotations

import dataclasses
import logging

import pandas as pd

from configs.requests import Request
from configs.schema import StudyConfig
from configs.values import with_values
from engine.disk.files import write_parquet
from engine.run.folder import RunFolder
from engine.run.interrupt import StopRequest
from engine.search.engine import SearchEngine
from engine.search.probe import Probe, measure_cost, register
from engine.stages import Run
from engine.study.folder import StudyFolder
from engine.tracking.wandb_run import Wandb
from problems.hypergradients import HYPERGRADIENTS

log = logging.getLogger("autolora")


def run_probe(request: Request, folder: StudyFolder, stop: StopRequest) -> None:
    """One search with all approximations compared along the way: probe.parquet and cost.parquet; skipped when
    there."""
    config, settings = request.config, request.config.study.probe
    if not settings.steps or (folder.probe.exists() and folder.cost.exists()):
        return
    log.info("probe: all approximations against the exact hypergradient at steps %s", settings.steps)
    last = max(settings.steps)
    probed = with_values(dataclasses.replace(config, study=StudyConfig()), {"tracking.wandb": "disabled"})
    run = Run(probed, RunFolder(folder.root), Wandb(probed, folder.root, {}), stop)
    engine = run.build_search(second_order=True)
    probe = Probe(HYPERGRADIENTS[config.hypergradient.type], settings.steps, settings.etas)
    engine.lora.config.type = register(probe)

    def after_step(engine: SearchEngine) -> bool:
        stop.check()
        return engine.global_step >= last

    engine.after_step = after_step
    engine.run()
    write_parquet(folder.probe, pd.DataFrame(probe.rows))
    write_parquet(folder.cost, pd.DataFrame(measure_cost(engine, settings.timed_steps)))
