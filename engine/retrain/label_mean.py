"""The loss of an evaluation: the mean over all labels of a split, for any batch size and number of processes."""

import torch

from autolora.problems.machine.processes import Processes


class LabelMean:
    """Combines the mean losses of batches into the mean over all their labels.

    Trainer weighs each batch by its rows instead: a word of a short sentence would count more than one of a long
    sentence, and the loss would change with the batch size.
    """

    def __init__(self, rows: int, processes: Processes) -> None:
        self.left = rows
        self.processes = processes
        self.losses: list[torch.Tensor] = []
        self.counts: list[int] = []

    def own(self, batch: int) -> int:
        """How many rows of this process's next batch count. The others are padding, as Trainer gives all processes
        equally many rows."""
        own = min(max(self.left - self.processes.rank * batch, 0), batch)
        self.left -= self.processes.size * batch
        return own

    def add(self, loss: torch.Tensor, labels: int) -> None:
        """Adds a batch: its mean loss over `labels` labels. A batch without labels, whose loss is NaN, is ignored."""
        if labels:
            self.losses.append(loss)
            self.counts.append(labels)

    def value(self) -> float:
        """The mean loss over the labels of all processes; NaN if there are no labels."""
        own = sum((loss.item() * count for loss, count in zip(self.losses, self.counts, strict=True)), start=0.0)
        parts = self.processes.gathered((own, sum(self.counts)))
        labels = sum(count for _, count in parts)
        return sum(part for part, _ in parts) / labels if labels else float("nan")
