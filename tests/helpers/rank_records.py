"""Rank records of the tests, and the layers that they are of."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from engine.ranks import LayerRank, RankRecord
from engine.ranks.rules import kept_components, thresholds

# Layer -> (outputs, inputs).
SHAPES = {"encoder.0.query": (8, 6), "encoder.0.value": (8, 8), "encoder.1.query": (4, 8)}


def record_by_threshold(names: Sequence[str], alpha: Tensor, constraint: Any = "softmax") -> RankRecord:
    """The record of these alphas [layers, k] by the paper's threshold; contributions are twice as large."""
    layers = tuple(
        LayerRank(name, int(kept.sum()), tuple(row.tolist()), tuple((2 * row).tolist()))
        for name, kept, row in zip(names, kept_components(alpha, constraint), alpha.double(), strict=True)
    )
    bound = None if constraint == "none" else float(thresholds(alpha.double(), constraint)[0])
    return RankRecord(alpha.shape[1], layers, constraint, threshold=bound)
