"""Rank records of the tests, and the layers that they are of."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.ranks.record import kept_components, thresholds
from tests.helpers.evidence import evidence_of

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


def answered_record(**changes: Any) -> RankRecord:
    """A record of three layers with what D_val says: the first has all of LoRA's gain, the others only noise."""
    shares = ((0.3, 0.01), (0.011, 0.01), (-0.001, 0.01))
    layers = tuple(
        LayerRank(name, rank, layer_share=share, layer_share_standard_error=error,
                  layer_part_standard_error=error / 0.31)
        for name, rank, (share, error) in zip(SHAPES, (3, 1, 8), shares, strict=True)
    )  # fmt: skip
    fields: dict[str, Any] = {"layers": layers, "evidence": evidence_of(), "lora_parameters": 1000}
    return RankRecord(8, **(fields | changes))
