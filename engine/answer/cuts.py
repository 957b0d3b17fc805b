"""A searched model, and its losses when only some of its components are active."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from peft import PeftModel
from torch import Tensor

from autolora.engine.answer.heads import Heads
from autolora.engine.answer.sample import Opened, Sample
from autolora.problems.gates import Gates


@dataclass(frozen=True)
class Searched:
    """A searched model in its singular basis, with its gates, the singular values [layers, k], the LoRA parameters of
    one component of each layer [layers], and its heads."""

    model: PeftModel
    gates: Gates
    singular_values: Tensor
    sizes: list[int]
    heads: Heads = field(default_factory=Heads)

    def cut(self, mask: Tensor, head: float = 1.0) -> Opened:
        """A context in which only the components in `mask` [layers, k] are active, with the head at `head` (1: the
        searched one)."""
        device = next(self.model.parameters()).device

        @contextmanager
        def opened() -> Iterator[None]:
            with self.heads.at(head), self.gates.open(mask.float().to(device)):
                yield

        return opened

    def all(self) -> Tensor:
        """The mask with all components."""
        return torch.ones(self.singular_values.shape, dtype=torch.bool)


class Cuts:
    """Measures cuts of a searched model. A mask that was measured before is not measured again: two budgets have the
    same components if the smaller one has room for all that a rule would take."""

    def __init__(self, searched: Searched, sample: Sample) -> None:
        self.searched = searched
        self.sample = sample
        self.weights = torch.zeros(len(sample.rows), dtype=torch.float64)
        """The weight of each row [rows], known after the first measurement."""
        self._known: dict[tuple[bytes, float], Tensor] = {}

    def statistics(self, masks: Sequence[Tensor], head: float = 1.0) -> list[Tensor]:
        """The likelihood's statistics of every row [rows, numbers] under each of these masks [layers, k], with the
        head at `head` (1: the searched one)."""
        keys = [(mask.numpy().tobytes(), head) for mask in masks]
        new = {key: mask for key, mask in zip(keys, masks, strict=True) if key not in self._known}
        self.sample.extend((len(new) - len(masks)) * len(self.sample.rows))  # 0 or less: known masks need no pass
        if new:
            points = [self.searched.cut(mask, head) for mask in new.values()]
            found, self.weights = self.sample.statistics(self.searched.model, points)
            self._known.update(zip(new, found, strict=True))
        return [self._known[key] for key in keys]
