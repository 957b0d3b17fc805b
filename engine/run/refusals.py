"""Check whether a run may start, resume or overwrite, before it writes anything and before it does anything slow."""

from pathlib import Path

from autolora.configs.endings import CHATS, OF_FILES, TABLES, TAGGED, ending, refuse_other_ending
from autolora.configs.errors import UserError
from autolora.configs.own_class import refuse_missing_file
from autolora.configs.places import from_home
from autolora.configs.schema import Autolora
from autolora.configs.tasks import Generation, OwnRows, Table
from autolora.engine.disk.paths import misplaced
from autolora.engine.run.asked import Asked, AskedOf, F
from autolora.engine.run.settling import Places
from autolora.problems.columns import refuse_missing_columns
from autolora.problems.scoring import require

_ENDINGS = {"text": TABLES, "generation": TABLES, "tokens": TAGGED, "chat": CHATS}
"""The endings of the files that each type of task reads."""


def refuse_misplaced(asked: AskedOf[F]) -> None:
    """Refuses a folder with a file where this program would write a folder, or the reverse."""
    for path, kind in misplaced(asked.folder):
        raise UserError(f"{path}: must be a {kind}, but is something else; move it, or give another --name")


def refuse_study(asked: Asked) -> None:
    """Refuses a single run in a study's folder, even with --overwrite, which would replace the study's files."""
    root = asked.folder.root
    if any((root / name).exists() for name in ("cells", "results.parquet")):
        raise UserError(f"--name: {root} holds a study; give the run another name")


def refuse_search_without_one(asked: Asked) -> None:
    """Refuses --stage search for a method that searches nothing."""
    if asked.stage == "search" and not asked.config.searches:
        raise UserError(
            f"--stage: 'search' is not allowed for --method {asked.config.method}, which does not search; allowed: "
            f"all, retrain"
        )


def refuse_finished(asked: Asked) -> None:
    """Refuses a stage that is finished and whose report is drawn, unless --overwrite is given."""
    folder = asked.folder
    finished = {"all": folder.metrics, "retrain": folder.metrics, "search": folder.ranks}.get(asked.stage)
    if asked.overwrite or finished is None or not finished.exists() or not folder.report.exists():
        return
    growing = folder.at(Places.of(folder.root).growing)
    resumes = f" (and resumes the half-done new results in {growing.root})" if growing.begun else ""
    what = "search" if asked.stage == "search" else "run"
    lost = folder.also_lost(asked.stage)
    removes, keeps = (f", and removes its {lost}", " and keeps this one as it is") if lost else ("", "")
    raise UserError(
        f"--name: {folder.root} already holds a finished {what}; --overwrite replaces it{resumes}{removes}, --name "
        f"starts another{keeps}, --stage report draws its report again"
    )


def refuse_without_ranks(asked: Asked) -> None:
    """Refuses a stage whose input, ranks.json or metrics.json, does not exist."""
    folder, stage, searches = asked.folder, asked.stage, asked.config.searches
    if stage == "report" and not searches and not folder.metrics.exists():
        raise UserError(f"--stage report: {folder.metrics} does not exist; --stage all writes it")
    if stage in ("retrain", "report") and searches and not folder.ranks.exists():
        raise UserError(
            f"--stage {stage}: {folder.ranks} does not exist; --stage search writes it (or write it by hand)"
        )


def refuse_missing_files(asked: Asked) -> None:
    """Refuses a run whose file of training rows, of evaluation rows, or of an approximation does not exist or has an
    ending that is not read, whose table of texts and labels lacks a column, or whose metrics of texts need what is not
    installed."""
    config, task, folder = asked.config, asked.config.task, asked.folder
    searches = asked.stage in ("all", "search") and not folder.search_summary.exists()
    if searches and isinstance(config, Autolora) and config.answer.from_run is None:
        refuse_missing_file(config.hypergradient.type, "hypergradient.type")
    trains_nothing = asked.stage == "report" or (folder.metrics.exists() and not asked.overwrite)
    if isinstance(task, Generation) and not trains_nothing:
        require(task.benchmark or "e2e", task.official)
    if trains_nothing or not isinstance(task, OwnRows) or task.from_paper:
        return
    read = {"path", f"{task.evaluated_split}_path"}
    for option, name in ((f"--task.{key}", name) for key, name in task.files.items() if key in read):
        path = Path(from_home(name))
        if ending(name) in OF_FILES and not path.exists():
            raise UserError(f"{option}: no file {name!r}")
        # Only task.path may name a folder or a data set of the hub, and only of these types.
        if path.is_file() or option != "--task.path" or not task.on_hub:
            refuse_other_ending(option, name, _ENDINGS[task.type])
    if isinstance(task, Table):
        refuse_missing_columns(task)
