"""The loss of an evaluation: the mean over all labels of a split, for any batch size and number of processes; and the
share of these labels that have the largest logit."""

import torch

from problems.machine.processes import Processes


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
        self.hits: list[torch.Tensor] = []

    def own(self, batch: int) -> int:
        """How many rows of this process's next batch count. The others are padding, as Trainer gives all processes
        equally many rows."""
        own = min(max(self.left - self.processes.rank * batch, 0), batch)
        self.left -= self.processes.size * batch
        return own

    def add(self, loss: torch.Tensor, labels: int, hits: torch.Tensor | None = None) -> None:
        """Adds a batch: its mean loss over `labels` labels, `hits` of which have the largest logit. A batch without
        labels, whose loss is NaN, is ignored."""
        if labels:
            self.losses.append(loss)
            self.counts.append(labels)
            self.hits += [] if hits is None else [hits]

    def value(self) -> float:
        """The mean loss over the labels of all processes; NaN if there are no labels."""
        own = sum((loss.item() * count for loss, count in zip(self.losses, self.counts, strict=True)), start=0.0)
        return self._share(own)

    def accuracy(self) -> float:
        """The share of the labels of all processes that have the largest logit; NaN if there are no labels."""
        return self._share(float(sum(hits.item() for hits in self.hits)))

    def _share(self, own: float) -> float:
        parts = self.processes.gathered((own, sum(self.counts)))
        labels = sum(count for _, count in parts)
        return sum(part for part, _ in parts) / labels if labels else float("nan")


def hits_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many labels get the largest logit from the token before them. Does not copy the logits.

    logits [rows, tokens, vocabulary]; labels [rows, tokens], -100 for a token without a label.
    """
    return (logits.argmax(dim=-1)[:, :-1] == labels[:, 1:]).sum()
