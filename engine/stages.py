"""Check whether a command may begin, and run its stages (engine/recipe.py) in the folder.

Everything that is wrong and can be found out from files alone is refused before torch is loaded,
which takes seconds.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from autolora.configs.errors import UserError
from autolora.configs.files import describes_a_folder, read_keys
from autolora.configs.layers import with_values
from autolora.configs.locations import from_home, is_hub_name
from autolora.configs.requests import Request
from autolora.configs.schema import Autolora, RunConfig
from autolora.configs.schema import Stage as Asked
from autolora.configs.tasks import Chat
from autolora.engine.disk.lock import locked
from autolora.engine.interrupt import StopRequest
from autolora.engine.run.logged import logged
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.manifest import Changed, Stage, end
from autolora.engine.store.overwrite import OverwriteFolders, finish_swap, staging_beside
from autolora.engine.store.plan import BASE_MODEL, TRAINING, names_of
from autolora.engine.store.sources import inputs_in_files, other_run, ranks_from, source_of
from autolora.engine.terminal.loading import load_libraries
from autolora.engine.tracking.tracker import wandb_mode
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.scoring import require

log = logging.getLogger("autolora")


def run_stages(
    request: Request, stop: StopRequest, *, draw: bool = True, processes: Processes = ALONE
) -> RunFolder:
    """Runs what the request asks for; finished stages are reused, half-done ones go on. Returns the
    folder.

    `draw`: whether to write the report; a study does not do so for its cells. Raises UserError for
    what the user must change, Interrupted when a signal asked to stop.
    """
    folder = RunFolder.of(request.config)
    with locked(folder.root) if processes.first else nullcontext():
        processes.of_first(partial(finish_swap, OverwriteFolders.of(folder.root)))
        work = partial(_in_folder, request, stop, processes, draw)
        try:
            work(folder)
        except Changed as changed:
            if not request.overwrite:
                raise
            kept = [
                stage.name for stage in _stages(request.config, folder, "all") if not stage.foreign
            ]
            staging_beside(folder, kept, changed, work, processes)
    return folder


def _in_folder(
    request: Request, stop: StopRequest, processes: Processes, draw: bool, folder: RunFolder
) -> None:
    """The stages in this folder. Raises Changed if what it holds was made from something else."""
    config = (
        as_made(request.config, folder)
        if request.stage in ("retrain", "evaluate")
        else request.config
    )
    stages = processes.of_first(lambda: checked(config, folder, request.stage))
    if processes.first:
        for stage in stages:  # a kill may have come between its last file and this
            end(stage)
    if (folder.report.exists() or not draw) and _reusable(stages, config):
        log.info("%s was finished before, and nothing is done", folder.root)
        if processes.first:
            folder.clear_leftovers()
        return
    with logged(folder) if processes.first else nullcontext():
        load_libraries()
        from autolora.engine.session import run_in  # only now: its imports take seconds

        if processes.size == 1:  # several processes stop together, after a step
            stop.check()
        run_in(config, folder, stages, stop, processes, draw=draw)
        processes.wait()


def _reusable(stages: list[Stage], config: RunConfig) -> bool:
    """Whether all stages are done, and the rows and the base model bear the names under which they
    were read."""
    names = names_of(config)
    for stage in stages:
        if stage.foreign:
            continue
        if not stage.done:
            return False
        if stage.recorded is not None and not _same_names(stage.recorded.names, names):
            return False
    return True


def _same_names(then: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether rows and base model are those of then; a base model that is no longer on this machine
    counts by its name alone."""
    if BASE_MODEL not in now:
        then = {key: value for key, value in then.items() if key != BASE_MODEL}
    return then == now


def as_made(config: RunConfig, folder: RunFolder) -> RunConfig:
    """`config` with the settings by which the folder's ranks were searched and chosen, which a
    later stage does not read: config.yaml and the report would tell of a search that was not
    made."""
    if not isinstance(config, Autolora) or not folder.config.exists():
        return config
    sections = ("search.", "hypergradient.", "measure.", "choose.")
    made = {
        key: value for key, value in read_keys(folder.config).items() if key.startswith(sections)
    }
    return with_values(config, made)


def unfinished(config: RunConfig) -> bool:
    """Whether a run has stages left to do. Raises Changed if its folder was made from something
    else."""
    return not _reusable(compared(config, RunFolder.of(config), "all"), config)


def checked(config: RunConfig, folder: RunFolder, asked: Asked) -> list[Stage]:
    """The stages of a command, as `compared` gives them. Raises UserError if the command cannot
    begin."""
    _refuse_folder(config, folder, asked)
    stages = compared(config, folder, asked)
    _refuse_missing(config, {stage.name for stage in stages if not stage.done})
    return stages


def compared(config: RunConfig, folder: RunFolder, asked: Asked) -> list[Stage]:
    """The stages of a command. Raises Changed if what the folder holds was made with other
    settings, ranks or files."""
    stages = list(_stages(config, folder, asked))
    known = inputs_in_files(config, folder)
    again = asked == "evaluate" and _differs(stages[-1], config)
    checked = stages[:-1] if again else stages
    for stage in checked:
        stage.check_settings()
        for name, (value, where) in known.items():
            stage.check_input(name, value, where)
        stage.check_files()
    if again:
        stages[-1] = replace(stages[-1], recorded=None)
    return stages


def _differs(evaluation: Stage, config: RunConfig) -> bool:
    """Whether an evaluation has other metrics or rows, for which --stage evaluate makes another
    one."""
    try:
        evaluation.check_settings()
    except Changed:
        return True
    recorded = evaluation.recorded
    return recorded is not None and not _same_names(recorded.names, names_of(config))


def _stages(config: RunConfig, folder: RunFolder, asked: Asked) -> Iterator[Stage]:
    """The stages in their order, behind those of other runs that they read."""
    names: list[str] = []
    if asked in ("all", "search") and config.searches == "trials":
        names += ["grid"]
    elif asked in ("all", "search") and config.searches:
        source = source_of(config)
        if source is not None and not folder.search_summary.exists():
            yield replace(Stage.of("search", config, source), foreign="measure.from")
        names += ["search", "choose"] if source is not None else ["search", "measure", "choose"]
    if asked in ("all", "retrain"):
        names += [name for name in TRAINING if name != "sweep" or config.sweeps]
    if asked == "evaluate":
        names += ["retrain", "evaluate"]
    other = other_run(config) or (
        folder if config.retrain.start == "search" and asked == "retrain" else None
    )
    if other is not None and "retrain" in names:
        wanted = ["lora.lora_alpha"]
        if config.sweeps:
            wanted += ["task.validation_share", "task.split_by"]
        found = Stage.of("search", config, other)
        settings = {key: value for key, value in found.settings.items() if key in wanted}
        yield replace(found, foreign="retrain.init", settings=settings)
    yield from (Stage.of(name, config, folder) for name in names)


def _refuse_folder(config: RunConfig, folder: RunFolder, asked: Asked) -> None:
    """Raises UserError for a folder that is no run's, or lacks what the stage reads."""
    root = folder.root
    searches = config.searches
    if (root / "cells").exists():
        raise UserError(f"--name: {root} holds a study; give the run another name")
    if asked == "search" and not searches:
        raise UserError(
            f"--stage: 'search' is not allowed for --method {config.method}, which does not "
            "search; allowed: all, retrain"
        )
    if asked == "retrain" and searches and not folder.ranks.exists():
        raise UserError(
            f"--stage retrain: {folder.ranks} does not exist; --stage search writes it (or "
            "write it by hand)"
        )
    if asked == "evaluate" and not folder.trained.exists():
        raise UserError(f"--stage evaluate: {root} has no trained model; --stage all trains one")
    if root.is_dir() and root.name[:1] != "." and not describes_a_folder(folder.config):
        found = sorted(
            p.name for p in root.iterdir() if p.name != "ranks.json" and p.name[0] != "."
        )
        if found:
            raise UserError(
                f"--name: {root} holds {found[0]}, and no config.yaml of a run of this "
                "program; give another --name or --runs_folder"
            )


def _refuse_missing(config: RunConfig, todo: set[str]) -> None:
    """Raises UserError if a file that a stage will read, or a package that it needs, is not
    there."""
    task = config.task
    source = source_of(config)
    other = other_run(config)
    if not todo:
        return
    if config.tracking.wandb == "online":
        wandb_mode(config)
    wanted = {
        "measure.from": source.measured if source and "search" in todo else None,
        "retrain.init": other.search_weights if other and "retrain" in todo else None,
        "lora.ranks_from": ranks_from(config)
        if config.of_lora("ranks_from") and "retrain" in todo
        else None,
    }
    for key, path in wanted.items():
        if path is not None and not path.exists():
            raise UserError(
                f"--{key}: {path} does not exist; allowed: the folder of a run that has it"
            )
    if isinstance(task, Chat) and "evaluate" in todo:
        require("webnlg" if task.format == "webnlg" else "e2e", task.asked)
    if task.from_paper:
        return
    split = task.evaluated_split
    for key, name in (("path", task.path), (f"{split}_path", task.file_of(split))):
        if name and not Path(from_home(name)).exists() and not is_hub_name(name):
            raise UserError(f"--task.{key}: no file {name!r}")
