"""The ranks of a model by a search and its answer: the one way in, of the command line and of scripts."""

from engine.answer.again import take_over
from engine.answer.stage import answer
from engine.run.workbench import Workbench
from engine.search.stage import search
from engine.tracking import NOWHERE, Tracker


def find_ranks(run: Workbench, tracker: Tracker = NOWHERE) -> None:
    """Searches (or takes over the search of `answer.from`) and answers, which ends with ranks.json; a search that is
    finished is not repeated when its answer was interrupted.

    All processes call it. Raises Interrupted when a signal asked to stop, UserError for what the user must change.
    """
    if not run.processes.of_first(run.folder.search_summary.exists):
        search(run, tracker) if run.config.answer.from_run is None else take_over(run)
        run.processes.wait()
    run.compute.let_go()
    answer(run, tracker)
