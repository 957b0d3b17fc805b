"""The live view of a search (bar, both losses, rank map) and of a retraining (bar, loss, learning rate)."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from autolora.engine.terminal.bar import Bar
from autolora.engine.terminal.console import console
from autolora.engine.terminal.rank_map import RankMap

SECONDS_BETWEEN_NUMBERS = 1.0


class SearchProgress(Bar):
    """The live view of a search of `total` steps over the layers `names`, whose ranks are 0 to `k`."""

    def __init__(self, total: int, done: int, names: Sequence[str], k: int, on: Console = console) -> None:
        self.map, self._numbers = RankMap(names, k), Text("", no_wrap=True, overflow="ellipsis")
        super().__init__("search", total, done, (self._numbers, self.map), on)

    def step(self, done: int, more: str = "") -> None:
        """Moves the bar to `done`. A log line ends with the newest losses."""
        super().step(done, more or self._numbers.plain)

    def show(self, step: int, train_loss: float, val_loss: float | None, ranks: Sequence[int]) -> None:
        """Moves the bar to `step` and shows its losses and, unless empty, its ranks."""
        val_text = "-" if val_loss is None else f"{val_loss:z.3f}"
        mean_rank = f"  mean rank {sum(ranks) / len(ranks):.2f}, not decided yet" if ranks else ""
        self._numbers.plain = f"L_tr {train_loss:z.3f}  L_val {val_text}{mean_rank}"
        self.map.ranks = ranks
        self.step(step)


class RetrainProgress(Bar):
    """The live view of a retraining of `total` steps, with the mean loss since the last update and the learning
    rate."""

    def __init__(self, total: int, done: int, on: Console = console) -> None:
        self._numbers = Text("", no_wrap=True, overflow="ellipsis")
        super().__init__("retrain", total, done, (self._numbers,), on)
        self._shown = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether to show new numbers now; not at every step, as reading a loss waits for the GPU."""
        shown_long_ago = time.monotonic() - self._shown > SECONDS_BETWEEN_NUMBERS
        return super().due or (self.console.is_interactive and shown_long_ago)

    def show(self, step: int, loss: float, rate: float) -> None:
        """Moves the bar to `step` and shows the loss and the learning rate."""
        self._shown = time.monotonic()
        self._numbers.plain = f"loss {loss:z.3f}  learning rate {rate:.2g}"
        self.step(step, self._numbers.plain)
