"""The head between the one that was trained alone and the searched one.

The searched head expects LoRA. Without LoRA, or with little of it, it may be far worse than the head alone: on BioNLP
2004 the loss with the searched head and no LoRA is 1.5 nats, that of the head alone 0.7 and that of the searched model
0.3. A measurement between no LoRA and all of it therefore takes a head in between.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autolora.problems.models.attach import ADAPTER


@dataclass(frozen=True)
class Heads:
    """The weights of the modules that are trained whole (the head), at t from 0 to 1: (1 - t) w_alone + t w_searched.

    `weights`: the model's parameter, its value alone, and its searched value. Empty if LoRA alone was searched."""

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
