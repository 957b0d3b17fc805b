"""Check whether a run may start, resume or overwrite, before it writes anything and before it does anything slow."""

from contextlib import suppress
from pathlib import Path

import yaml

from autolora.configs.errors import UserError
from autolora.configs.files import read_keys
from autolora.configs.own_class import refuse_missing_file
from autolora.configs.places import from_home, is_hub_name
from autolora.configs.schema import Autolora
from autolora.configs.tasks import Chat, OwnRows
from autolora.engine.run.asked import Asked, AskedOf, F
from autolora.engine.run.folder import WANDB_ID, RunFolder
from autolora.problems.scoring import require

_SECTIONS = {"method", "seed", "model", "task", "retrain"}
"""Keys that the config.yaml of every run and study of this program has."""
_BEFORE_TRAINING = {"wandb", WANDB_ID}
"""What a run writes before config.yaml, and a killed run may leave behind."""
_BY_HAND = {"ranks.json", "search"}
"""What a user may put into an empty folder, so that --stage retrain trains at these ranks."""


def refuse_foreign(asked: AskedOf[F]) -> None:
    """Refuses a folder that holds files but no config.yaml of this program, as it would mix them with its own.

    --stage report needs no check, as it has read config.yaml already."""
    root = asked.folder.root
    if asked.stage == "report" or not root.is_dir() or _is_ours(RunFolder(root).config):
        return
    allowed = _BEFORE_TRAINING | (_BY_HAND if asked.stage == "retrain" else set())
    found = sorted(path.name for path in root.iterdir() if path.name not in allowed and path.name[0] != ".")
    if found:
        hint = "; --stage retrain starts from a ranks.json written by hand" if found[0] in _BY_HAND else ""
        raise UserError(
            f"--name: {root} holds {found[0]}, and no config.yaml of a run of this program; give another --name or "
            f"--runs_folder{hint}"
        )


def _is_ours(config: Path) -> bool:
    with suppress(OSError, UserError, yaml.YAMLError):
        return read_keys(config).keys() >= _SECTIONS
    return False


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
    """Refuses a run whose file of training rows, of evaluation rows, or of an approximation does not exist, or whose
    metrics of texts need what is not installed."""
    config, task, folder = asked.config, asked.config.task, asked.folder
    searches = asked.stage in ("all", "search") and not folder.search_summary.exists()
    if searches and isinstance(config, Autolora) and config.answer.from_run is None:
        refuse_missing_file(config.hypergradient.type, "hypergradient.type")
    trains_nothing = asked.stage == "report" or (folder.metrics.exists() and not asked.overwrite)
    if isinstance(task, Chat) and not trains_nothing:
        require("webnlg" if task.format == "webnlg" else "e2e", task.asked)
    if trains_nothing or not isinstance(task, OwnRows) or task.from_paper:
        return
    read = {"path", f"{task.evaluated_split}_path"}
    for option, name in ((f"--task.{key}", name) for key, name in task.files.items() if key in read):
        if not Path(from_home(name)).exists() and not is_hub_name(name):
            raise UserError(f"{option}: no file {name!r}")
