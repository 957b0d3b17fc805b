"""Shares over the beginning of the path: the slope there, at the temperature of the model without LoRA."""

import pytest
import torch

from benchmarks.scores.variants import BEGINNING, beginning
from engine.answer.cuts import Cuts
from tests.helpers.branches import searched_with_head


def test_the_beginning_is_the_slope_at_its_middle() -> None:
    found, sample = searched_with_head(100)
    cuts, middle = Cuts(found, sample), BEGINNING / 2
    off, _ = cuts.statistics([found.all() & False, found.all()])
    shares = beginning(cuts, off, 32)
    temperature, losses = sample.likelihood.fitted(off, cuts.weights), []
    for step in (-0.02, 0.02):
        gates = torch.full((3, 4), middle)
        gates[1, 0] += step
        statistics, weights = sample.statistics(found.model, [found.cut(gates, head=middle)])
        losses.append(float(sample.likelihood.losses(statistics[0], temperature, weights).mean()))
    assert temperature != pytest.approx(1.0, rel=0.1)
    assert float(shares.mean()[1, 0]) == pytest.approx(BEGINNING * (losses[0] - losses[1]) / 0.04, rel=2e-2)
