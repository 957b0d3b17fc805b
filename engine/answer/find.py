"""Find the ranks of a model by a search and its answer; both the command line and `learn_ranks` call this."""

from autolora.engine.answer.again import take_over
from autolora.engine.answer.stage import answer
from autolora.engine.run.workbench import Workbench
from autolora.engine.search.stage import search
from autolora.engine.tracking import NOWHERE, Tracker


def find_ranks(run: Workbench, tracker: Tracker = NOWHERE) -> None:
    """Searches, or copies the search of `answer.from`, then measures the answer and writes ranks.json.

    A finished search is not repeated. All processes must call this. Raises Interrupted if a signal asked to stop,
    UserError for what the user must change.
    """
    if not run.processes.of_first(run.folder.search_summary.exists):
        if run.config.answer.from_run is None:
            search(run, tracker)
        else:
            take_over(run)
        run.processes.wait()
    run.compute.let_go()
    answer(run, tracker)
