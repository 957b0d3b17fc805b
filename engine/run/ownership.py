"""Check whether this program may write to a folder and replace it."""

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path, PurePath

import yaml

from autolora.configs.errors import UserError
from autolora.configs.files import read_keys
from autolora.engine.run.asked import AskedOf, F
from autolora.engine.run.folder import WANDB_ID, RunFolder
from autolora.engine.run.settling import RECORD, Places

_SECTIONS = {"method", "seed", "model", "task", "retrain"}
"""Keys that the config.yaml of every run and study of this program has."""
_BEFORE_TRAINING = {"wandb", WANDB_ID}
"""What a run writes before config.yaml, and a killed or failed run may leave behind."""
_BY_HAND = {"ranks.json", "search"}
"""What a user may put into an empty folder, so that --stage retrain trains at these ranks."""


def refuse_foreign(asked: AskedOf[F]) -> None:
    """Refuses a folder that holds files but no config.yaml of this program.

    --stage retrain may start from a ranks.json that someone wrote by hand. --stage report needs no check, as it has
    read config.yaml already.
    """
    root = asked.folder.root
    if os.path.islink(os.path.realpath(root)):
        raise UserError(f"--runs_folder: cannot write {root} (its link leads to itself); give another --name")
    if root.exists() and not root.is_dir():
        raise UserError(f"--runs_folder: cannot write {root} (it is a file); give another --name or --runs_folder")
    if asked.stage == "report" or not root.is_dir() or _is_ours(RunFolder(root).config):
        return
    allowed = _BEFORE_TRAINING | (_BY_HAND if asked.stage == "retrain" else set())
    found = sorted(path.name for path in root.iterdir() if path.name not in allowed and path.name[0] != ".")
    if found:
        hint = "; --stage retrain starts from a ranks.json written by hand" if found[0] in _BY_HAND else ""
        if RunFolder(root).config.name in found:
            hint = "; the config.yaml there is damaged, or another program's"
        raise UserError(
            f"--name: {root} holds {found[0]}, and no config.yaml of a run of this program; give another --name or "
            f"--runs_folder{hint}"
        )


def _is_ours(config: Path) -> bool:
    with suppress(OSError, ValueError, UserError, yaml.YAMLError):
        return read_keys(config).keys() >= _SECTIONS
    return False


def refuse_occupied(asked: AskedOf[F]) -> None:
    """Refuses --overwrite if a hidden folder that it uses beside the results holds something of the user's.

    The program removes these hidden folders once the new results are in place.
    """
    if not asked.replaces:
        return
    places = Places.of(asked.folder.root)
    names = {PurePath(pattern).parts[0] for pattern in asked.folder.patterns()}
    names |= {"wandb", RECORD, f".{RECORD}.tmp"}
    for place, allowed in ((places.growing, names), (places.set_aside, names), (places.old, set[str]())):
        if what := _foreign(place, allowed):
            raise UserError(
                f"--overwrite: {place}, which this program uses beside the results, {what}; move it away, or give "
                f"another --name"
            )


def _foreign(place: Path, allowed: Collection[str]) -> str:
    """What is wrong with `place`, as the end of a sentence about it: it is no folder of this program, or it holds a
    path that is not in `allowed`; "" if nothing is wrong."""
    if not os.path.lexists(place):
        return ""
    if place.is_symlink() or not place.is_dir():
        return "is a file or a link that this program did not make"
    other = sorted(path.name for path in place.iterdir() if path.name not in allowed)
    return f"holds {other[0]}, which is none of the results that this command writes" if other else ""


def refuse_mounted(asked: AskedOf[F]) -> None:
    """Refuses to replace a folder that is a mount point, which the system does not allow."""
    place = Places.of(asked.folder.root).root
    if asked.replaces and (place.is_mount() or str(place) in _mount_points()):
        raise UserError(
            f"--overwrite: {asked.folder.root} is a mount point, which new results cannot replace; give another "
            f"--name, or mount the folder around it"
        )


def _mount_points() -> set[str]:
    """The mount points of Linux, with bind mounts, which `Path.is_mount` misses; empty on other systems."""
    with suppress(OSError):
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        return {line.split()[4].replace("\\040", " ") for line in lines}
    return set()
