"""File names of a PEFT adapter, and a warning about ranks that a LoraConfig cannot express.

It does not import PEFT, which takes seconds.
"""

from autolora.engine.ranks import RankRecord
from autolora.problems.models.parts import split

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


def what_parts_lose(record: RankRecord) -> str:
    """A warning that other trainers cannot keep the ranks of a fused layer's parts; empty if no part has a rank."""
    parts = [(*split(name), rank) for name, rank in record.kept.items()]
    if all(part is None for _, part, _ in parts):
        return ""
    layer = next(layer for layer, part, _ in parts if part is not None)
    ranks = [f"{part} {rank}" for name, part, rank in parts if name == layer]
    total = sum(rank for name, _, rank in parts if name == layer)
    return (
        f"Not exact in other trainers: the parts of c_attn share one LoRA (in {layer} {' + '.join(ranks)} = rank "
        f"{total}). This program keeps B at 0 outside the block of outputs of each part. No LoraConfig can express "
        f"that: other trainers train all of B, three times as many numbers, and query, key and value change together."
    )
