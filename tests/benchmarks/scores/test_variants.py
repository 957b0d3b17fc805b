"""Shares on D_tr, and over the beginning of the path: the slope there, at the temperature without LoRA."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.configs.files import load_config
from autolora.engine import ranks
from autolora.engine.answer.cuts import Cuts
from autolora.engine.answer.sample import Sample
from autolora.engine.answer.shares import Shares
from autolora.engine.answer.stage import head_on
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.workbench import Workbench
from benchmarks.scores import variants
from benchmarks.scores.variants import BEGINNING, beginning
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


@pytest.mark.trains
def test_the_shares_on_d_tr_are_measured_there_and_the_beginning_is_that_of_the_head_alone_on_d_val(
    finished_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished_run()
    run = Context(load_config(folder.config), StopRequest(), folder=folder)
    d_tr, d_val = (sorted(half.tolist()) for half in run.halves())
    measured, begun = [], []

    def sample_of(run: Workbench, rows: Any) -> Sample:
        measured.append((sorted(rows.tolist()), original(run, rows)))
        return measured[-1][1]

    def of_beginning(cuts: Cuts, off: Tensor, batch: int) -> Shares:
        begun.append(off)
        return beginning(cuts, off, batch)

    original = variants.sample_of
    monkeypatch.setattr(variants, "sample_of", sample_of)
    monkeypatch.setattr(variants, "beginning", of_beginning)
    scores = variants.share_variants(run)
    assert [rows for rows, _ in measured] == [d_tr, d_val]
    head, _, _ = head_on(run, run.data.train.select(run.halves()[0]), measured[1][1])
    assert head is not None
    torch.testing.assert_close(begun[0], head)
    on_d_val = [max(layer.share) for layer in ranks.load(folder.ranks).layers]
    assert scores["share on D_tr: of the largest component"].tolist() != pytest.approx(on_d_val)
