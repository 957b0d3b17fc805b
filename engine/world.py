"""What a stage needs of the world: where it computes, who watches, when it stops."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from autolora.engine.interrupt import StopRequest
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import ALONE, Processes


class Progress(Protocol):
    """How far long work is, shown inside `with`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def step(self, done: int) -> None:
        """So many steps are done."""

    def grow(self, more: int) -> None:
        """So many steps are to be done beyond what was planned."""

    def show(self, numbers: str, ranks: Sequence[int] = ()) -> None:
        """The newest numbers in words, and the rank of each layer as it is now (empty: none)."""


class StartProgress(Protocol):
    """Begins to show `total` steps of `what`, of which some are done; `layers` and `k`: whose ranks
    will be shown, too."""

    def __call__(
        self, what: str, total: int, done: int = 0, layers: Sequence[str] = (), k: int = 0
    ) -> Progress: ...


class Tracking(Protocol):
    """Where curves, tables and pictures are sent while a stage works."""

    @property
    def alive(self) -> bool:
        """Whether anything is sent."""

    def begin(self) -> None:
        """A stage is about to train, or goes on."""

    def log(self, values: Mapping[str, Any]) -> None:
        """Sends numbers and pictures of one step."""

    def lines(self, key: str, steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
        """Sends a chart with these curves."""

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Sends a table."""


class Silence:
    """Progress that nobody sees."""

    def __init__(
        self, what: str, total: int, done: int = 0, layers: Sequence[str] = (), k: int = 0
    ) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def step(self, done: int) -> None: ...

    def grow(self, more: int) -> None: ...

    def show(self, numbers: str, ranks: Sequence[int] = ()) -> None: ...


class Nowhere:
    """A tracker that sends nothing."""

    alive = False

    def begin(self) -> None: ...

    def log(self, values: Mapping[str, Any]) -> None: ...

    def lines(
        self, key: str, steps: Sequence[int], curves: Mapping[str, Sequence[float]]
    ) -> None: ...

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...


def _nothing() -> None:
    """Writes nothing down."""


@dataclass(frozen=True)
class World:
    """What a stage needs of the world.

    `work`: the stage's own folder, in which half-done work lies and grows (None: nothing is kept).
    `begin`: called just before the first step, after every check has passed: what has begun is
    written down. Of several processes only the first writes files, and only it has a tracker.
    """

    compute: Compute
    processes: Processes = ALONE
    progress: StartProgress = Silence
    tracker: Tracking = field(default_factory=Nowhere)
    work: Path | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    begin: Callable[[], None] = _nothing

    def check(self) -> None:
        """Raises Interrupted if a signal has asked a single process to stop. Several processes stop
        together: after a step of a training, or at the end of a stage."""
        if self.processes.size == 1:
            self.stop.check()
