"""A model whose LoRA can be cut for a pass: components switched off, in any basis, with a head in between.

The head that was searched beside LoRA expects LoRA. Without LoRA, or with little of it, it may be far worse than the
head alone: on BioNLP 2004 the loss with the searched head and no LoRA is 1.5 nats, that of the head alone 0.7 and that
of the searched model 0.3. A measurement between no LoRA and all of it therefore takes a head in between.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from peft import PeftModel
from torch import Tensor, nn

from autolora.engine.cut.basis import Basis, plain_basis
from autolora.problems.gates import Gates
from autolora.problems.models.attach import ADAPTER


@dataclass(frozen=True)
class Heads:
    """The weights of the modules that are trained whole (the head), at t from 0 to 1: (1 - t) w_alone + t w_searched.

    `weights`: the model's parameter, its value alone, and its searched value. Empty where LoRA alone is measured."""

    weights: tuple[tuple[nn.Parameter, Tensor, Tensor], ...] = ()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that differ between the two heads."""
        return [weight for weight, *_ in self.weights]

    @contextmanager
    def at(self, t: float) -> Iterator[None]:
        """Inside the `with` block the model has the head at t; after it, the searched one again."""
        if t == 1:
            yield
            return
        try:
            with torch.no_grad():
                for weight, alone, searched in self.weights:
                    weight.copy_(torch.lerp(alone, searched, t))
            yield
        finally:
            with torch.no_grad():
                for weight, _, searched in self.weights:
                    weight.copy_(searched)

    def slope(self, gradients: Sequence[Tensor | None]) -> float:
        """The derivative of a loss with respect to t by its gradients with respect to `parameters`; None: the loss
        does not depend on this parameter."""
        pairs = zip(gradients, self.weights, strict=True)
        parts = (
            ((searched - alone).cpu().double() * grad.cpu().double()).sum()
            for grad, (_, alone, searched) in pairs
            if grad is not None
        )
        return sum(float(part) for part in parts)


def heads_of(model: nn.Module, alone: Mapping[str, Tensor]) -> Heads:
    """The heads of a searched `model`. `alone`: name in the base model -> weight of the head that was trained alone;
    empty if LoRA alone was searched."""
    found = {_in_base(name): weight for name, weight in model.named_parameters() if _in_base(name) in alone}
    if set(found) != set(alone):
        raise ValueError(f"the searched model lacks {', '.join(sorted(set(alone) - set(found)))}")
    weights = ((weight, alone[name].to(weight), weight.detach().clone()) for name, weight in found.items())
    return Heads(tuple(weights))


def _in_base(name: str) -> str:
    """The name that a weight of a module trained whole has in the base model; that of any other weight is left."""
    return name.removeprefix("base_model.model.").replace(f".modules_to_save.{ADAPTER}", "")


Bases = Sequence[Basis]
"""A basis of each layer's LoRA."""


@dataclass(frozen=True)
class Cut:
    """What is active in a pass: the components in `mask` [layers, k] of LoRA in `bases` (None: as the model has it),
    with the head at `head` (1: the searched one)."""

    mask: Tensor
    bases: Bases | None = None
    head: float = 1.0


@dataclass(frozen=True)
class Gated:
    """A model with gates on its LoRA, and the heads it may have.

    The layers of a finished adapter may have different ranks; k is the largest of them."""

    model: PeftModel
    gates: Gates
    heads: Heads = field(default_factory=Heads)

    @property
    def ranks(self) -> list[int]:
        """How many components each layer has [layers]."""
        return self.gates.ranks

    @property
    def sizes(self) -> list[int]:
        """The LoRA parameters of one component of each layer [layers]."""
        return list(self.gates.parameters_per_rank().values())

    def first(self, ranks: Sequence[int]) -> Tensor:
        """The mask of the first components of each layer, as many as `ranks` says. Boolean [layers, k]."""
        return torch.arange(self.gates.k) < torch.tensor(ranks).unsqueeze(1)

    def even(self, rank: int) -> Tensor:
        """The mask of the first `rank` components of every layer. Boolean [layers, k]."""
        return self.first([min(rank, own) for own in self.ranks])

    def plain(self) -> Bases:
        """The bases of the plain SVD of B A."""
        return [plain_basis(*(factor.detach() for factor in pair)) for pair in self.gates.factors()]

    @contextmanager
    def at(self, cut: Cut) -> Iterator[None]:
        """Inside the `with` block passes go through the cut model; after it, through the whole one as it was."""
        device = next(self.model.parameters()).device
        with self.heads.at(cut.head), self._in(cut.bases), self.gates.open(cut.mask.float().to(device)):
            yield

    @contextmanager
    def _in(self, bases: Bases | None) -> Iterator[None]:
        if bases is None:
            yield
            return
        pairs = self.gates.factors()
        before = [tuple(factor.detach().clone() for factor in pair) for pair in pairs]
        try:
            with torch.no_grad():
                for (a, b), basis in zip(pairs, bases, strict=True):
                    a.copy_(basis.a)
                    b.copy_(basis.b)
            yield
        finally:
            with torch.no_grad():
                for pair, kept in zip(pairs, before, strict=True):
                    for factor, value in zip(pair, kept, strict=True):
                        factor.copy_(value)
