"""What a tracker is to the rest of the program: curves, pictures, tables and files go to it while a run goes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Tracker:
    """A tracker that sends nothing. Others override what they take; none of them may stop a run.

    `alive`: whether anything is sent. As a context it ends the run however its body ends.
    """

    alive = False

    def log(self, values: Mapping[str, Any]) -> None:
        """Numbers and pictures (of PIL) of one moment."""

    def image(self, key: str, path: Path) -> None:
        """A picture from a file."""

    def lines(self, key: str, steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
        """One line chart with a line for each of `curves`."""

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table."""

    def keep(self, name: str, kind: str, path: Path) -> None:
        """A file or a folder, where there is one and the configuration wants it kept."""

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        """The final values; nothing is sent afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends the run as finished, failed or stopped, as `error` says."""


NOWHERE = Tracker()
