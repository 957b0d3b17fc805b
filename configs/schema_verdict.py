"""The section `verdict` of a configuration."""

from dataclasses import dataclass, field
from typing import Literal

from configs import ranges

Arm = Literal["uniform", "random"]


@dataclass(frozen=True)
class VerdictConfig:
    """--stage verdict: do these ranks, trained from fresh weights, beat the same ranks in other layers?"""

    minutes: ranges.Positive = 15.0
    """Minutes after which a command stops training pairs; the same command trains further ones. At least 8 pairs are
    needed, and 24 are the most."""
    rows: ranges.CountFromZero = 4000
    """Training rows that task.train_rows left unused and that judge beside the evaluation rows, at most."""
    shuffle: Literal["size", "type"] = "size"
    """The layers among which the compared ranks are permuted. size: layers with equally many LoRA parameters per rank,
    does any place matter? type: layers of one module type in different blocks, does the block matter?"""
    arms: list[Arm] = field(default_factory=list)
    """Further ranks that every pair trains, for comparison. uniform: one rank in every layer, of about the same cost
    (1 where the average is below 1); random: random ranks of the same cost."""
