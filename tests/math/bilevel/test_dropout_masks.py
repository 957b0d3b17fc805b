"""Seeded random numbers, and autocast where it is asked for."""

import torch

from autolora.problems.machine import compute
from autolora.problems.machine.compute import seeded

CPU = torch.device("cpu")


def test_a_seed_gives_the_same_numbers_and_leaves_the_stream_outside_alone() -> None:
    drawn = []
    for outside, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(outside)
        before = torch.get_rng_state()
        with seeded(seed, CPU):
            drawn.append(torch.rand(4))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_autocast_computes_in_bf16_and_only_when_asked() -> None:
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with compute.Compute(CPU, bf16).autocast():
            assert layer(x).dtype == dtype
