"""The adapter padded with zero components to one rank, for servers that read only r and lora_alpha."""

import json
import re
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import pad

from engine.disk.files import read_json
from engine.export.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS


def save_padded(adapter: Path, folder: Path) -> None:
    """The adapter in `adapter` with every layer padded by zero components to the largest rank.

    rank_pattern and alpha_pattern become empty: for servers that read only `r` and `lora_alpha`. Where layers differ
    in scale, the difference is folded into B, so the function stays the same.
    """
    config = read_json(adapter / ADAPTER_CONFIG)
    weights = load_file(adapter / ADAPTER_WEIGHTS)
    rank = max(config["rank_pattern"].values(), default=config["r"])
    padded: dict[str, Tensor] = {}
    for name, value in weights.items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", name)
        if match is None:
            padded[name] = value
            continue
        layer, factor = match.groups()
        own_rank = config["rank_pattern"].get(layer, config["r"])
        own_alpha = config["alpha_pattern"].get(layer, config["lora_alpha"])
        if factor == "A":
            padded[name] = pad(value, (0, 0, 0, rank - own_rank))
        else:
            scale = (own_alpha / own_rank) / (config["lora_alpha"] / rank)
            padded[name] = pad(value * scale, (0, rank - own_rank))
    config |= {"r": rank, "rank_pattern": {}, "alpha_pattern": {}}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(padded, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
