"""Taking turns: who runs when, and what is compared with what."""

import pytest
import torch

from benchmarks.lengths import COUNTS, FIRST, draw_lengths
from benchmarks.timing import Contender, Times, take_turns

CPU = torch.device("cpu")


def test_everybody_steps_on_every_batch_in_a_turning_order() -> None:
    seen: list[tuple[str, int]] = []

    def contender(name: str, rounds: int | None = None) -> Contender:
        return Contender(name, lambda batch: seen.append((name, int(batch["x"]))), rounds)

    batches = [{"x": torch.tensor(i)} for i in range(5)]
    times = take_turns([contender("a"), contender("b"), contender("slow", 1)], batches, 2, CPU)
    assert [name for name, number in seen if number == 0] == ["a", "b"]
    assert [name for name, number in seen if number == 1] == ["b", "slow", "a"], "its own warm-up, late"
    assert [number for name, number in seen if name == "slow"] == [1, 2]
    assert sorted(times.rounds["a"]) == [2, 3, 4], "the warm-up is not counted"
    assert sorted(times.rounds["slow"]) == [2]


def test_ratios_are_of_the_same_batch() -> None:
    times = Times({"a": {0: 2.0, 1: 20.0, 2: 6.0}, "lora": {0: 1.0, 1: 10.0, 2: 2.0}, "slow": {1: 50.0}})
    assert times.ratio("a", "lora") == 2.0
    assert times.ratio("slow", "lora") == 5.0
    assert times.median("a") == 6.0


def test_drawn_lengths_are_those_of_sst2() -> None:
    assert sum(COUNTS) == 67_349
    lengths = draw_lengths(20_000, seed=0)
    assert lengths.min() >= FIRST
    assert lengths.max() <= 66
    assert lengths.mean() == pytest.approx(13.32, abs=0.2)
