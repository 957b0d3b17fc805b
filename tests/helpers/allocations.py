"""Trainings at random places whose losses follow from effects that a test chooses."""

import numpy as np
import pandas as pd

from benchmarks.places.allocations import Allocations

LAYERS = [f"encoder.layer.{block}.{kind}" for block in range(4) for kind in ("query", "value", "dense")]


def planted(effects: np.ndarray, *, noise: float = 0.0, trainings: int = 60) -> Allocations:
    """Each training has LoRA in 4 to 8 of the 12 layers and its loss is lower by the sum of their effects; the second
    seed's losses are all higher by 1. The loss of the head alone is that of a training with no effect."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(trainings):
        chosen = np.zeros(len(LAYERS), dtype=int)
        chosen[generator.permutation(len(LAYERS))[: generator.integers(4, 9)]] = 1
        seed = 1 + number % 2
        loss = seed - chosen @ effects + noise * generator.standard_normal()
        places = dict(zip(LAYERS, chosen.tolist(), strict=True))
        rows.append({"seed": seed, "draw": number // 2, "loss": loss} | places)
    table = pd.DataFrame(rows).sort_values(["seed", "draw"], ignore_index=True)
    return Allocations(table, {1: 1.0, 2: 2.0})
