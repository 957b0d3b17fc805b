"""Check whether a run may start, resume or overwrite, before it writes anything and before it does anything slow."""

from autolora.configs.errors import UserError
from autolora.configs.facts import SEARCHING
from autolora.engine.disk.paths import misplaced
from autolora.engine.run.asked import Asked, AskedOf, F
from autolora.engine.run.settling import Places


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
    if asked.stage == "search" and asked.config.method not in SEARCHING:
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
    folder, stage, searches = asked.folder, asked.stage, asked.config.method in SEARCHING
    if stage == "report" and not searches and not folder.metrics.exists():
        raise UserError(f"--stage report: {folder.metrics} does not exist; --stage all writes it")
    if stage in ("retrain", "report") and searches and not folder.ranks.exists():
        raise UserError(
            f"--stage {stage}: {folder.ranks} does not exist; --stage search writes it (or write it by hand)"
        )
