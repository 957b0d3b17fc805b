"""The loss of an evaluation: the mean over all labels of a split, in however many batches and processes they come; and
how many of these labels have the largest logit."""

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
        self.hits: list[torch.Tensor] = []

    def own(self, batch: int) -> int:
        """How many of the next batch's rows count: Trainer fills the last ones up, as all processes need as many."""
        own = min(max(self.left - self.processes.rank * batch, 0), batch)
        self.left -= self.processes.size * batch
        return own

    def add(self, loss: torch.Tensor, labels: int, hits: torch.Tensor | None = None) -> None:
        """The mean loss over so many labels, of which `hits` have the largest logit; over none it is no number, and
        counts nothing."""
        if labels:
            self.losses.append(loss)
            self.counts.append(labels)
            self.hits += [] if hits is None else [hits]

    def value(self) -> float:
        """The mean over the labels of all processes; NaN where there is none."""
        own = sum((loss.item() * count for loss, count in zip(self.losses, self.counts, strict=True)), start=0.0)
        return self._share(own)

    def accuracy(self) -> float:
        """The share of the labels of all processes that have the largest logit; NaN where there is none."""
        return self._share(float(sum(hits.item() for hits in self.hits)))

    def _share(self, own: float) -> float:
        parts = self.processes.gathered((own, sum(self.counts)))
        labels = sum(count for _, count in parts)
        return sum(part for part, _ in parts) / labels if labels else float("nan")


def hits_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many labels have the largest of the logits that the token before them gives. No copy of the logits is made.

    logits [rows, tokens, vocabulary], labels [rows, tokens], -100 where there is none.
    """
    return (logits.argmax(dim=-1)[:, :-1] == labels[:, 1:]).sum()
