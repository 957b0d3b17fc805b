"""`--answer.from RUN`: copy the finished search of another run, and derive another answer from it."""

import shutil
from typing import TYPE_CHECKING

from autolora.configs.errors import UserError
from autolora.configs.schema import Autolora, RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import read_json, replacing, write_json
from autolora.engine.run.asked import Asked
from autolora.engine.run.contents import read_searched
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.places import filled_in
from autolora.engine.run.resuming import Outdated
from autolora.engine.search.settings import FOUND

if TYPE_CHECKING:  # the module needs torch and transformers, which take seconds to load
    from autolora.engine.run.workbench import Workbench


def source_of(config: RunConfig) -> RunFolder | None:
    """The run whose search is copied; None for a run that does its own search."""
    named = config.answer.from_run if isinstance(config, Autolora) else None
    return None if named is None else RunFolder(filled_in(named, config))


def refuse_other_source(asked: Asked) -> None:
    """Refuses a source that has no finished search and answer, that searched under other settings, or that did not
    measure what this answer needs. Also refuses a folder that already holds its own search, or that of another source.

    A search that the folder has already copied is not checked again: its source may have changed or be gone.
    """
    config, source, folder = asked.config, source_of(asked.config), asked.folder
    if (
        source is None
        or not isinstance(config, Autolora)
        or asked.stage not in ("all", "search")
        or folder.ranks.exists()
    ):
        return
    if not folder.search_summary.exists():
        _refuse_unfit(source, config)
    elif not folder.source_ranks.exists():
        raise Outdated(
            f"--answer.from: {folder.root} holds a finished search of its own; leave it out to choose the ranks "
            f"from that search, --name for another run, or --overwrite to replace it"
        )
    else:
        _refuse_copy_of_another(source, folder)


def _refuse_copy_of_another(source: RunFolder, folder: RunFolder) -> None:
    """Raises Outdated if the folder's search was copied from another run than this source: the ranks would come from
    the old one, and be recorded as those of the new one."""
    then, now = read_searched(folder.search_summary).get("taken_from"), str(source.root.resolve())
    if then not in (None, now):
        raise Outdated(
            f"--answer.from: {folder.root} holds a search copied from {then}, now it is {now}; give the old value to "
            f"resume, --name for another run, or --overwrite to start again"
        )


def _refuse_unfit(source: RunFolder, config: Autolora) -> None:
    """Raises UserError if the answer that `config` asks for cannot be derived from this source."""
    for path in (source.search_summary, source.search_numbers, source.search_weights, source.trajectory, source.ranks):
        if not path.exists():
            raise UserError(
                f"--answer.from: {source.root} has no {path.relative_to(source.root)}; allowed: the folder of a run "
                f"of method autolora whose search is finished"
            )
    searched, record = read_searched(source.search_summary), ranks.load(source.ranks)
    FOUND.refuse_changed(
        searched.get("settings", {}),
        config,
        f"{source.root} holds a search made with",
        "give the old value, or leave --answer.from out to search again",
    )
    sizes = searched["parameters_per_rank"]
    if {layer.name for layer in record.layers} != set(sizes):
        raise UserError(f"--answer.from: {source.ranks} has other layers than its search; allowed: a ranks.json with "
                        f"all {len(sizes)} layers of the search")  # fmt: skip
    if record.evidence is None and config.answer.needs_evidence:
        raise UserError(
            f"--answer.from: {source.root} measured no shares (answer.rows 0, or ranks written by hand); "
            f"allowed: --answer.rule threshold, size with a number as --answer.budget, or a run that measured them"
        )
    from autolora.engine.choose.decide import decided  # loads torch, for which other commands should not wait

    decided(record, config.answer, sizes)  # raises UserError if no ranks can be derived


def take_over(run: "Workbench") -> None:
    """Copies the source's search into the run's folder, so that the run no longer reads the source.

    summary.json is written last, as it marks the search as finished; it names the source."""
    source = source_of(run.config)
    assert source is not None
    run.begin()
    if not run.processes.first:
        return
    here = run.folder
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
