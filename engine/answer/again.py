"""Another answer from a finished search: `--answer.from RUN` takes over what that run's search left."""

import shutil
from pathlib import Path

from configs.errors import UserError
from configs.schema import RunConfig
from engine import ranks
from engine.disk.files import replacing
from engine.run.contents import read_searched
from engine.run.context import Context
from engine.run.folder import RunFolder
from engine.run.opening import Asked
from engine.search.settings import FOUND


def source_of(config: RunConfig) -> RunFolder | None:
    """The run whose search is answered again; None for a run that searches itself."""
    named = config.answer.from_run if config.method == "autolora" else None
    return None if named is None else RunFolder(Path(named).expanduser())


def refuse_other_source(asked: Asked) -> None:
    """Refuses a source that is no run with a finished search and its answer, or that searched under other settings."""
    source = source_of(asked.config)
    if source is None or asked.stage not in ("all", "search") or asked.folder.ranks.exists():
        return
    for path in (source.search_summary, source.search_numbers, source.search_weights, source.trajectory, source.ranks):
        if not path.exists():
            raise UserError(
                f"--answer.from: {source.root} has no {path.relative_to(source.root)}; allowed: the folder of a run "
                f"of method autolora whose search is finished"
            )
    answer = asked.config.answer
    needs = answer.rule == "shares" or (answer.rule == "size" and answer.budget == "auto")
    if needs and ranks.load(source.ranks).evidence is None:
        raise UserError(
            f"--answer.from: {source.root} measured no shares (answer.rows 0, or ranks written by hand); "
            f"allowed: --answer.rule threshold, size with a number as --answer.budget, or a run that measured them"
        )
    FOUND.refuse_changed(
        read_searched(source.search_summary).get("settings", {}),
        asked.config,
        f"{source.root} was searched with",
        "give that value, or leave --answer.from out to search again",
    )


def take_over(run: Context) -> None:
    """Copies the source's search into the run's folder, summary.json last, so that the run reads nothing of it any
    more."""
    source = source_of(run.config)
    assert source is not None
    run.begin()
    if not run.processes.first:
        return
    here = run.folder
    pairs = [
        (source.trajectory, here.trajectory), (source.search_metrics, here.search_metrics),
        (source.search_weights, here.search_weights), (source.search_numbers, here.search_numbers),
        (source.ranks, here.source_ranks), (source.search_summary, here.search_summary),
    ]  # fmt: skip
    for there, place in pairs:
        if there.exists():
            with replacing(place) as temporary:
                shutil.copyfile(there, temporary)
