"""The stages of a run; each reads files of the one before: search -> ranks.json -> retrain -> adapter -> report."""

from autolora.engine.choose.stage import find_ranks
from autolora.engine.report.stage import write_report
from autolora.engine.retrain.components import heed_data_of_components
from autolora.engine.retrain.stage import retrain
from autolora.engine.retrain.trials import choose_ranks
from autolora.engine.run.asked import Asked
from autolora.engine.run.contents import read_result
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.resources import forget_peak
from autolora.engine.run.same_data import heed_data_of_ranks
from autolora.engine.tracking import NOWHERE, Tracker, tracker_of
from autolora.problems.machine.processes import Processes


def run_in(asked: Asked, stop: StopRequest, processes: Processes, *, draw: bool) -> None:
    """Runs the stages that `asked` names in its folder, which was opened before; unfinished stages resume.

    `draw`: whether to write the report. Raises UserError for what the user must change, Interrupted if a signal asked
    to stop.
    """
    config, folder, stage = asked.config, asked.folder, asked.stage
    with _tracker(asked) if processes.first else NOWHERE as tracker:
        run = Context(config, stop, processes, folder)
        forget_peak(run.compute)
        # A stage is done if its last file exists, whether or not later stages have run.
        no_ranks, no_metrics = processes.of_first(lambda: (not folder.ranks.exists(), not folder.metrics.exists()))
        if stage in ("all", "search") and config.searches and no_ranks:
            _find_ranks(run, tracker)
        processes.wait()
        if stage in ("all", "retrain") and no_metrics:
            heed_data_of_ranks(run, stage)
            heed_data_of_components(run)
            retrain(run, tracker)
        if processes.first:
            folder.clear_leftovers()
            if draw:
                pictures = write_report(config, folder)
                for name, path in pictures.items():
                    tracker.image(f"figures/{name}", path)
            tracker.keep(f"{config.name}-ranks", "ranks", folder.ranks)
            tracker.keep(f"{config.name}-adapter", "model", folder.adapter)
        tracker.finish({key: value for key, value in read_result(folder.metrics).items() if key != "settings"})


def _find_ranks(run: Context, tracker: Tracker) -> None:
    """Finds ranks by the run's method and writes ranks.json."""
    if run.config.searches == "trials":
        choose_ranks(run)
    else:
        with run.base_loaded_once():
            find_ranks(run, tracker)
    run.compute.let_go()


def _tracker(asked: Asked) -> Tracker:
    """The run's tracker; NOWHERE for --stage report."""
    return NOWHERE if asked.stage == "report" else tracker_of(asked.config, asked.folder.root)
