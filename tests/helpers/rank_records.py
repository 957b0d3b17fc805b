"""Rank records of the tests, and the layers that they are of."""

from typing import Any

from autolora.engine.ranks import LayerRank, RankRecord
from tests.helpers.evidence import evidence_of

# Layer -> (outputs, inputs).
SHAPES = {"encoder.0.query": (8, 6), "encoder.0.value": (8, 8), "encoder.1.query": (4, 8)}


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
