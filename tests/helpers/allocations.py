"""Trainings at random places whose losses follow from effects that a test chooses."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.places.allocations import Allocations

LAYERS = [f"encoder.layer.{block}.{kind}" for block in range(4) for kind in ("query", "value", "dense")]


def planted(
    effects: np.ndarray, *, noise: float = 0.0, allocations: int = 30, seeds: Sequence[int] = (1, 2), seed: int = 0
) -> Allocations:
    """Every allocation is trained at every seed. It has LoRA in 4 to 8 of the 12 layers, and its loss is lower by the
    sum of their effects; the losses of seed s are all higher by s. The loss of the head alone is that of a training
    with no effect. `seed` draws the allocations and the noise."""
    generator = np.random.default_rng(seed)
    rows = []
    for draw in range(allocations):
        chosen = np.zeros(len(LAYERS), dtype=int)
        chosen[generator.permutation(len(LAYERS))[: generator.integers(4, 9)]] = 1
        for number in seeds:
            loss = number - chosen @ effects + noise * generator.standard_normal()
            own = {"task": "sst2", "settings": "ab12", "seed": number, "draw": draw, "loss": loss}
            rows.append(own | dict(zip(LAYERS, chosen.tolist(), strict=True)))
    table = pd.DataFrame(rows).sort_values(["seed", "draw"], ignore_index=True)
    return Allocations(table, {number: float(number) for number in seeds})
