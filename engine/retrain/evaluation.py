"""The loss of an evaluation: the mean over all labels of a split, in however many batches and processes they come."""

import torch

from problems.machine.processes import Processes


class LabelMean:
    """Puts the mean losses of batches together to the mean over all their labels.

    Trainer's own weighs each batch by its rows: the words of a short sentence would count more than those of a long
    one, and the number would change with the size of the batches.
    """

    def __init__(self, rows: int, processes: Processes) -> None:
        self.left = rows
        self.processes = processes
        self.losses: list[torch.Tensor] = []
        self.counts: list[int] = []

    def own(self, batch: int) -> int:
        """How many of the next batch's rows count: Trainer fills the last ones up, as all processes need as many."""
        own = min(max(self.left - self.processes.rank * batch, 0), batch)
        self.left -= self.processes.size * batch
        return own

    def add(self, loss: torch.Tensor, labels: int) -> None:
        """The mean loss over so many labels; over none it is no number, and counts nothing."""
        if labels:
            self.losses.append(loss)
            self.counts.append(labels)

    def value(self) -> float:
        """The mean over the labels of all processes; NaN where there is none."""
        own = sum((loss.item() * count for loss, count in zip(self.losses, self.counts, strict=True)), start=0.0)
        parts = self.processes.gathered((own, sum(self.counts)))
        labels = sum(count for _, count in parts)
        return sum(part for part, _ in parts) / labels if labels else float("nan")
