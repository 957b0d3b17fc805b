"""Cuts of a searched model: each set of components is measured once."""

import pytest
import torch

from autolora.engine.measure.gated import Cuts
from tests.helpers.branches import planted, sample_of, searched


@pytest.fixture
def cuts() -> tuple[Cuts, list[int]]:
    """Cuts of three branches with k = 4 on 10 rows, and the changes of how much progress the bar waits for."""
    model, inputs, labels = planted(3, (1,), 10, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    changes: list[int] = []
    return Cuts(searched(model), sample_of(inputs, labels, extend=changes.append)), changes


def first(count: int) -> torch.Tensor:
    return (torch.arange(4) < count).expand(3, 4)


def test_each_cut_gives_what_the_model_gives_with_these_gates(cuts: tuple[Cuts, list[int]]) -> None:
    own, _ = cuts
    two, four = own.statistics([first(2), first(4)])
    model, sample = own.searched.model, own.sample
    for mask, found in ((first(2), two), (first(4), four)):
        expected, weights = sample.statistics(model, [own.searched.cut(mask)])
        assert torch.equal(found, expected[0])
        assert torch.equal(own.weights, weights)
    assert not torch.equal(two, four)


def test_a_mask_is_measured_once_and_what_is_left_out_is_not_waited_for(
    cuts: tuple[Cuts, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, changes = cuts
    passes: list[int] = []
    measured = type(own.sample).statistics

    def counted(sample, model, points):  # type: ignore[no-untyped-def]
        passes.append(len(points))
        return measured(sample, model, points)

    monkeypatch.setattr(type(own.sample), "statistics", counted)
    one, again, two = own.statistics([first(1), first(1).clone(), first(2)])
    assert torch.equal(one, again)
    assert torch.equal(own.statistics([first(2)])[0], two)
    assert passes == [2]
    assert changes == [-10, -10]
