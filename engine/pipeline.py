"""A run from its first stage to its last: search, measure, choose, train, evaluate, report; each if
it is not done."""

from collections.abc import Sequence

from autolora.configs.schema import RunConfig
from autolora.engine.choose.stage import choose, measure, take_over
from autolora.engine.disk.files import read_json
from autolora.engine.report.stage import write_report
from autolora.engine.retrain.stage import evaluate_trained, retrain
from autolora.engine.retrain.trials import choose_learning_rate, choose_ranks
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.resources import forget_peak
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.manifest import Stage
from autolora.engine.store.plan import TRAINING
from autolora.engine.store.sources import source_of
from autolora.engine.tracking import NOWHERE, Tracker, tracker_of
from autolora.problems.machine.processes import Processes


def run_in(
    config: RunConfig,
    folder: RunFolder,
    stages: Sequence[Stage],
    stop: StopRequest,
    processes: Processes,
    *,
    draw: bool,
) -> None:
    """Runs those of these stages that are not done, and draws the report.

    Raises Changed if what is done was made from other rows or another base model, UserError for
    what the user must change, Interrupted if a signal asked to stop.
    """
    with tracker_of(config, folder.root) if processes.first else NOWHERE as tracker:
        run = Context(config, stop, processes, folder, stages)
        forget_peak(run.compute)
        run.know_rows()
        todo = processes.of_first(
            lambda: {stage.name for stage in stages if not (stage.done or stage.foreign)}
        )
        if not todo:
            run.base()
        _find_ranks(run, todo, tracker)
        if todo & set(TRAINING):
            _train(run, todo, tracker)
        if processes.first:
            folder.clear_leftovers()
            if draw:
                pictures = write_report(config, folder)
                for name, path in pictures.items():
                    tracker.image(f"figures/{name}", path)
        tracker.finish(read_json(folder.metrics))


def _find_ranks(run: Context, todo: set[str], tracker: Tracker) -> None:
    """The stages that end in ranks.json. One base model serves them all."""
    with run.base_loaded_once():
        if "grid" in todo:
            choose_ranks(run)
            run.end("grid")
        if "search" in todo:
            if source_of(run.config) is None:
                # only here: the other stages need no Betty
                from autolora.engine.search.search import search

                search(run, tracker)
            else:
                take_over(run)
            run.end("search")
            run.processes.wait()
            run.compute.let_go()
        if "measure" in todo:
            measure(run)
            run.end("measure")
        if "choose" in todo and run.processes.first:
            choose(run, tracker)
            run.end("choose")
        run.processes.wait()
    run.compute.let_go()


def _train(run: Context, todo: set[str], tracker: Tracker) -> None:
    """The training at the ranks, and its evaluation; of a finished training, the evaluation
    alone."""
    if "retrain" in todo:
        rate = choose_learning_rate(run) if run.config.sweeps else run.config.retrain.rates[0]
        retrain(run, rate, tracker)
        run.end("retrain")
        run.processes.wait()
        run.compute.let_go()
    evaluate_trained(run, tracker)
    run.end("evaluate")
