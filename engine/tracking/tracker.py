"""What the rest of the program sends to a tracker: curves, pictures, tables and files of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Tracker:
    """A tracker that sends nothing. Subclasses override the methods that they support, and let no error stop the run.

    `alive`: whether anything is sent. Used in a `with` statement, it closes its run when the body ends or raises.
    """

    alive = False

    def log(self, values: Mapping[str, Any]) -> None:
        """Sends numbers and pictures (PIL images) that belong to one step."""

    def resumes(self) -> None:
        """Says that a stage resumes from a checkpoint, and so will send again what it sent after the checkpoint."""

    def image(self, key: str, path: Path) -> None:
        """Sends a picture from a file."""

    def lines(self, key: str, steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
        """Sends one chart with a line for each of `curves`."""

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Sends a table."""

    def keep(self, name: str, kind: str, path: Path) -> None:
        """Sends a file or a folder, if it exists and the configuration asks for that."""

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        """Sends the final values and closes the run; nothing is sent afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Closes the run as finished, failed or stopped, depending on `error`."""


NOWHERE = Tracker()
