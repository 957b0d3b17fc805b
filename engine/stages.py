"""Check whether a run may begin, load the libraries, and run its stages (`engine/work.py`).

Everything that is wrong and can be found out from files alone is refused before torch is loaded, which takes seconds.
"""

import dataclasses
import logging
from contextlib import ExitStack, nullcontext
from typing import Any

from autolora.configs.requests import Request
from autolora.engine.choose.reuse import ANSWERED, refuse_changed_answer, refuse_other_source, with_recorded
from autolora.engine.disk.lock import locked
from autolora.engine.retrain.components import refuse_missing_components
from autolora.engine.retrain.owners import refuse_other_ranks
from autolora.engine.retrain.settings import CHOOSING, FINISHED, refuse_changed_retraining, refuse_other_weights
from autolora.engine.retrain.sources import refuse_missing_ranks, refuse_own_sources
from autolora.engine.run import refusals
from autolora.engine.run.asked import Asked, Refusal
from autolora.engine.run.contents import read_answer, read_result, read_searched, read_trials_file
from autolora.engine.run.faults import explained
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.logged import logged
from autolora.engine.run.opening import again_if_outdated, nothing_left_when_refused, opened, workplace
from autolora.engine.run.resuming import Settings
from autolora.engine.search.settings import FOUND, refuse_changed_search
from autolora.engine.terminal.loading import load_libraries
from autolora.engine.tracking.login import refuse_online_without_key
from autolora.problems.machine.processes import ALONE, Processes

log = logging.getLogger("autolora")

REFUSALS: tuple[Refusal[RunFolder], ...] = (
    refusals.refuse_study,
    refusals.refuse_foreign,
    refusals.refuse_search_without_one,
    refuse_own_sources,
    refuse_missing_ranks,
    refuse_missing_components,
    refusals.refuse_without_ranks,
    refuse_online_without_key,
    refusals.refuse_missing_files,
)
"""Checks of the folder that the command names, in this order; each raises UserError if the run must not begin."""
RESUMING: tuple[Refusal[RunFolder], ...] = (
    refuse_other_source,
    refuse_changed_search,
    refuse_changed_answer,
    refuse_changed_retraining,
    refuse_other_weights,
    refuse_other_ranks,
)
"""Checks of the folder with the unfinished work: with --overwrite a hidden folder beside the one that the command
names, else that folder itself. Each raises UserError if that work must not resume."""


def run_stages(
    request: Request,
    stop: StopRequest,
    *,
    draw: bool = True,
    processes: Processes = ALONE,
) -> RunFolder:
    """Runs what the request asks for; unfinished stages resume. Returns the folder with the results.

    `draw`: whether to write the report; a study does not do so for its cells.

    Raises UserError for what the user must change, Interrupted when a signal asked to stop.
    """
    config = request.config
    if request.stage == "retrain":  # it reads ranks.json, whatever the settings of the search and the answer say
        config = with_recorded(config, RunFolder.of(config))
    asked = Asked(config, RunFolder.of(config), request.stage, request.overwrite)
    if finished(asked):
        log.info("%s was finished before, and nothing is done; --overwrite makes it anew", asked.folder.root)
        return asked.folder
    with locked(asked.folder.root) if processes.first else nullcontext(), explained(workplace(asked).root):
        again_if_outdated(asked, lambda asked: _open_and_run(asked, stop, processes, draw=draw))
    return asked.folder


def finished(asked: Asked) -> bool:
    """Whether the folder holds what the command would make, with its report. Raises Outdated if that was made under
    other settings."""
    folder, config = asked.folder, asked.config
    last = {"all": folder.metrics, "retrain": folder.metrics, "search": folder.ranks}.get(asked.stage)
    if asked.overwrite or last is None or not last.exists() or not folder.report.exists():
        return False
    made: list[tuple[Settings, dict[str, Any]]] = [(FINISHED, read_result(folder.metrics))]
    if asked.stage == "search":
        made = [(FOUND, read_searched(folder.search_summary)), (ANSWERED, read_answer(folder.answer))]
        if config.searches == "trials":
            made = [(CHOOSING, read_trials_file(folder.grid))]
    for settings, record in made:
        settings.refuse_changed(
            record.get("settings", {}), config, f"{folder.root} holds a finished run with",
            "give the old value, --name for another run, or --overwrite, which keeps the old results aside",
        )  # fmt: skip
    return True


def _open_and_run(asked: Asked, stop: StopRequest, processes: Processes, *, draw: bool) -> None:
    with ExitStack() as held:
        folder = processes.of_first(lambda: held.enter_context(opened(asked, REFUSALS, RESUMING)))
        if processes.first:
            held.enter_context(nothing_left_when_refused(folder))
            held.enter_context(logged(folder))
        load_libraries(asked.config, processes)
        from autolora.engine.work import run_in  # only now: its imports take seconds

        if processes.size == 1:  # several processes stop together, after a step
            stop.check()
        run_in(dataclasses.replace(asked, folder=folder), stop, processes, draw=draw)
        processes.wait()
