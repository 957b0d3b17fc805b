"""What a command takes over: the finished search of another run (`--answer.from RUN`), or ranks chosen before.

It says whether their settings fit. The module imports no torch, which takes seconds to load.
"""

import shutil
from typing import TYPE_CHECKING

from autolora.configs.errors import UserError
from autolora.configs.layers import keys, with_values
from autolora.configs.schema import Autolora, RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import read_json, replacing, write_json
from autolora.engine.run.asked import Asked
from autolora.engine.run.contents import read_answer, read_searched
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.places import filled_in
from autolora.engine.run.resuming import Outdated, Settings
from autolora.engine.search.settings import FOUND

if TYPE_CHECKING:  # the module needs torch and transformers, which take seconds to load
    from autolora.engine.run.workbench import Workbench

ANSWERED = Settings(("answer",))
"""The keys that change the answer to a finished search; compared before an existing ranks.json is used."""


def source_of(config: RunConfig) -> RunFolder | None:
    """The run whose search is copied; None for a run that does its own search."""
    named = config.answer.from_run if isinstance(config, Autolora) else None
    return None if named is None else RunFolder(filled_in(named, config))


def refuse_other_source(asked: Asked) -> None:
    """Refuses a source from which this answer cannot be derived, or a folder that holds another search.

    A search that the folder has already copied is not checked again: its source may have changed or be gone.
    """
    config, source, folder = asked.config, source_of(asked.config), asked.folder
    if source is None or asked.stage not in ("all", "search") or folder.ranks.exists():
        return
    if not folder.search_summary.exists():
        _refuse_unfit(source, config)
        return
    then, now = read_searched(folder.search_summary).get("taken_from"), str(source.root.resolve())
    if then != now:
        held = "a finished search of its own" if then is None else f"a search copied from {then}"
        raise Outdated(
            f"--answer.from: {folder.root} holds {held}, now it is {now}; give the old value, --name for another run, "
            f"or --overwrite to start again"
        )


def _refuse_unfit(source: RunFolder, config: RunConfig) -> None:
    """Raises UserError if the answer that `config` asks for cannot be derived from this source."""
    assert isinstance(config, Autolora)
    for path in (source.search_summary, source.ranks):
        if not path.exists():
            raise UserError(
                f"--answer.from: {source.root} has no {path.relative_to(source.root)}; allowed: the folder of a run "
                f"of method autolora whose search is finished"
            )
    searched = read_searched(source.search_summary)
    FOUND.refuse_changed(
        searched.get("settings", {}),
        config,
        f"{source.root} holds a search made with",
        "give the old value, or leave --answer.from out to search again",
    )
    from autolora.engine.ranks.rules import rule_of  # loads torch

    rule_of(config.answer, searched["parameters_per_rank"]).choose(ranks.load(source.ranks))


def take_over(run: "Workbench") -> None:
    """Copies the source's search into the run's folder, so that the run no longer reads the source.

    summary.json is written last, as it marks the search as finished; it names the source."""
    source, here = source_of(run.config), run.folder
    assert source is not None
    run.begin()
    if not run.processes.first:
        return
    pairs = [
        (source.trajectory, here.trajectory), (source.search_metrics, here.search_metrics),
        (source.search_weights, here.search_weights), (source.search_numbers, here.search_numbers),
        (source.ranks, here.source_ranks), (source.answer, here.source_answer),
    ]  # fmt: skip
    for there, place in pairs:
        if there.exists():
            with replacing(place) as temporary:
                shutil.copyfile(there, temporary)
    summary = read_json(source.search_summary) | {"taken_from": str(source.root.resolve())}
    write_json(here.search_summary, summary)


def refuse_changed_answer(asked: Asked) -> None:
    """Refuses to use existing ranks that were chosen with another rule, budget, tolerance or number of rows, or from
    another run's search."""
    folder, config = asked.folder, asked.config
    if asked.stage not in ("all", "search") or folder.metrics.exists() or not folder.ranks.exists():
        return
    ANSWERED.refuse_changed(
        read_answer(folder.answer).get("settings", {}),
        config,
        f"{folder.root} holds ranks that were chosen with",
        f"give the old value, --stage retrain to take those ranks as they are, --overwrite to start again, or --name "
        f"with --answer.from {folder.root} for another answer from the same search",
    )


def with_recorded(config: RunConfig, folder: RunFolder) -> RunConfig:
    """`config` with the sections search, hypergradient and answer by which the folder's ranks were found.

    With --stage retrain a command may have others, which nothing reads then: config.yaml, metrics.json and the report
    would tell of a search that was not made. Returns `config` itself if the folder has no search.
    """
    if not isinstance(config, Autolora) or not folder.search_summary.exists():
        return config
    found = read_searched(folder.search_summary).get("settings", {})
    found |= read_answer(folder.answer).get("settings", {})
    known = [key for key in found if key in keys() and key.startswith(("search.", "hypergradient.", "answer."))]
    return with_values(config, {key: found[key] for key in known})
