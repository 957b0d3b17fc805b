"""How many components each layer keeps: one rank in every layer, or unequal ranks within a number of parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from autolora.engine.cut.budget import kept_within


def even_ranks(ranks: Sequence[int], rank: int) -> list[int]:
    """`rank` in every layer, or the layer's own rank where it is smaller."""
    return [min(own, rank) for own in ranks]


def uneven_ranks(
    sizes: Sequence[Tensor], parameters_per_rank: Sequence[int], parameters: int, max_rank: int | None = None
) -> list[int]:
    """The components of the largest s^2 per parameter over all layers, up to this number of LoRA parameters.

    `sizes`: s of each layer [r], falling; `parameters_per_rank`: inputs + outputs of each layer. A layer keeps at most
    `max_rank` components, and none of size 0; it may keep none at all.
    """
    worth = pad_sequence([size.double().square() for size in sizes], batch_first=True)
    allowed = (worth > 0) & (torch.arange(worth.shape[1]) < (worth.shape[1] if max_rank is None else max_rank))
    # A layer's components cost the same and are worth ever less, so that those kept are its first ones.
    return kept_within(worth, parameters_per_rank, parameters, allowed).sum(1).tolist()
