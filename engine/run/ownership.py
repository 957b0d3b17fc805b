"""Is the folder one that this program may write and replace?"""

from contextlib import suppress
from pathlib import Path

import yaml

from configs.errors import UserError
from engine.run.folder import WANDB_ID, RunFolder
from engine.run.opening import AskedOf, F
from engine.run.settling import Places

_SECTIONS = {"method", "seed", "search", "lora", "retrain"}
"""What the config.yaml of every run and study of this program has."""
_BEFORE_TRAINING = {"wandb", WANDB_ID}
_BY_HAND = {"ranks.json", "search"}


def refuse_foreign(asked: AskedOf[F]) -> None:
    """Refuses a folder with files in it of which no config.yaml says that a run of this program wrote them.

    --stage retrain starts from a ranks.json that someone wrote by hand. A report has looked at config.yaml already.
    """
    root = asked.folder.root
    if root.exists() and not root.is_dir():
        raise UserError(f"--runs_folder: cannot write {root} (it is a file); give another --name or --runs_folder")
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
    with suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        return isinstance(content, dict) and content.keys() >= _SECTIONS
    return False


def refuse_mounted(asked: AskedOf[F]) -> None:
    """Refuses to replace a folder that is a mount point: the system lets nothing else take its place."""
    place = Places.of(asked.folder.root).root
    if asked.replaces and (place.is_mount() or str(place) in _mount_points()):
        raise UserError(
            f"--overwrite: {asked.folder.root} is a mount point, which new results cannot replace; give another "
            f"--name, or mount the folder around it"
        )


def _mount_points() -> set[str]:
    """Those of Linux, with what another part of the same file system shows; other systems have no such file."""
    with suppress(OSError):
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        return {line.split()[4].replace("\\040", " ") for line in lines}
    return set()
