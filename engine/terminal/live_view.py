"""The live view of a search: bar, both losses, rank map."""

from collections.abc import Sequence

from autolora.engine.terminal.bar import Bar
from autolora.engine.terminal.rank_map import RankMap


class SearchProgress(Bar):
    """The live view of a search of `total` steps over the layers `names`, whose ranks are 0 to `k`."""

    def __init__(self, total: int, done: int, names: Sequence[str], k: int) -> None:
        self.map = RankMap(names, k)
        super().__init__("search", total, done, [self.map])

    def show(self, step: int, train_loss: float, val_loss: float | None, ranks: Sequence[int]) -> None:
        """Moves the bar to `step` and shows its losses and, unless empty, its ranks."""
        val_text = "-" if val_loss is None else f"{val_loss:z.3f}"
        mean_rank = f"  mean rank {sum(ranks) / len(ranks):.2f}, not decided yet" if ranks else ""
        self.numbers.plain = f"L_tr {train_loss:z.3f}  L_val {val_text}{mean_rank}"
        self.map.ranks = ranks
        self.step(step)
