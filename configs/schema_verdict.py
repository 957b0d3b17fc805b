"""The section `verdict` of a configuration."""

from dataclasses import dataclass, field
from typing import Literal

from autolora.configs import ranges

Arm = Literal["uniform", "random"]


@dataclass(frozen=True)
class VerdictConfig:
    """Stage verdict trains pairs of models, at the learned ranks and at the same ranks in other layers."""

    minutes: ranges.Positive = 15.0
    """Minutes after which the command stops training pairs; the same command resumes."""
    pairs: Literal[8, 16, 24] = 24
    """The most pairs that are trained; it cannot change after the first one. With 8, the verdict looks once, and p
    must be at most 0.025. With 16 or 24, it looks after every 8 pairs, and each look needs a smaller p; more pairs
    find smaller differences."""
    rows: ranges.CountFromZero = 4000
    """At most this many of the training rows that task.train_rows left unused also judge the pairs, besides all
    evaluation rows."""
    shuffle: Literal["size", "type"] = "size"
    """The layers among which ranks are permuted. size: layers with equally many LoRA parameters per rank, to test
    whether any place matters; type: layers of one module type in different blocks, to test whether the block
    matters."""
    arms: list[Arm] = field(default_factory=list)
    """Further models that every pair trains for comparison, at other ranks. uniform: the same rank (at least 1) in
    every layer, with about as many parameters as the learned ranks; random: random ranks with as many parameters."""
