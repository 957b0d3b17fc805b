"""The file wandb_id in the folder of a run or a study: to which run on wandb's server its curves go."""

import logging
import secrets
from pathlib import Path
from typing import NamedTuple

from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.tracking.login import project_of

log = logging.getLogger("autolora")


class Identity(NamedTuple):
    """A run on wandb's server. `entity`: the team or user that it belongs to; "" while that is not known, as wandb
    tells it when the run begins there."""

    entity: str
    project: str
    id: str

    def write(self, path: Path) -> None:
        """Writes it to a file, atomically."""
        write_text(path, "/".join(self))


def read_identity(path: Path) -> Identity | None:
    """What the file holds; None if there is no such file, or, with a warning, if it holds something else."""
    if not path.exists():
        return None
    parts = path.read_text(encoding="utf-8", errors="replace").strip().split("/")
    if len(parts) == 3 and all(parts[1:]):
        return Identity(*parts)
    log.warning("%s: is not ENTITY/PROJECT/ID of a wandb run; the file is ignored", path)
    return None


def identity_of(config: RunConfig, path: Path) -> Identity:
    """The wandb run in the file `path`; without the file, one with a random id, which the file then holds.

    An entity or a project that the configuration names goes before that in the file."""
    known = read_identity(path)
    if known is None:
        known = Identity("", project_of(config), secrets.token_hex(4))
        known.write(path)
    wanted = config.tracking
    return known._replace(entity=wanted.entity or known.entity, project=wanted.project or known.project)
