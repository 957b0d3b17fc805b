"""What a command wants to do in the folder of a run or a study, and what a check of it looks like."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from autolora.configs.schema import RunConfig, Stage
from autolora.engine.run.folder import RunFolder


class Folder(Protocol):
    """The folder of a run or of a study."""

    @property
    def root(self) -> Path:
        """The folder itself."""

    @property
    def begun(self) -> bool:
        """Whether anything has begun to train here."""

    def at(self, root: Path) -> Self:
        """The same folder at another place."""

    def outputs(self, stage: Stage) -> list[Path]:
        """What a stage writes and --overwrite replaces."""


F = TypeVar("F", bound=Folder)


@dataclass(frozen=True)
class AskedOf(Generic[F]):
    """What a command wants to do in a folder."""

    config: RunConfig
    folder: F
    stage: Stage = "all"
    overwrite: bool = False
    outdated: str = ""
    """Why half-done new results cannot be resumed, if that became known only after they had been opened."""

    @property
    def replaces(self) -> bool:
        """Whether new results are written beside the old ones; a report is always drawn in the folder itself."""
        return self.overwrite and self.stage != "report"


Asked = AskedOf[RunFolder]
"""What a command wants to do in the folder of a run."""
Refusal = Callable[[AskedOf[F]], None]
"""Raises UserError when the command may not begin."""
