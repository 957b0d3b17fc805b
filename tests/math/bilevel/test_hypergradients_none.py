"""The search without outer steps: plain LoRA of rank k on D_tr, by the program's own engine."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import read_json_lines
from autolora.engine.run.context import Context
from autolora.engine.search import trajectory
from autolora.engine.search.search import SearchEngine, build_search
from autolora.problems.bilevel import SelectionProblem
from autolora.problems.machine.compute import seeded
from autolora.problems.machine.draws import seed_of
from tests.helpers.searching import find_ranks

FIXED = ("--hypergradient.type", "none", "--lora.dropout", "0.1")


def plain_steps(engine: SearchEngine, steps: int) -> None:
    """LoRA as torch alone trains it, on the search's own batches: no gates, no Betty."""
    lora = engine.lora
    model: Any = lora.module
    model.train()
    lora.gates.values = None
    for number in range(steps):
        batch = lora.batches[number]
        lora.optimizer.zero_grad()
        with seeded(seed_of(batch.seed, "masks", 0), torch.device("cpu")):
            loss = model(**batch.parts[0][0]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lora.trained, lora.config.gradient_clipping)
        lora.optimizer.step()
        lora.scheduler.step()


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_weights_are_those_of_plain_lora(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], kind: str
) -> None:
    config = tiny_config(*FIXED, kind=kind)
    searched = build_search(run_of(config), second_order=False)
    searched.run()
    plain = build_search(run_of(config), second_order=False)
    start = [p.detach().clone() for p in plain.lora.trained]
    plain_steps(plain, config.search.steps)
    assert not all(map(torch.equal, plain.lora.trained, start))
    for found, expected in zip(searched.lora.trained, plain.lora.trained, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.trains
def test_alpha_stays_at_its_start_and_d_val_is_never_seen(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("an outer step")

    monkeypatch.setattr(SelectionProblem, "training_step", fail)
    # By patience a search would stop at step 4.
    settings = ("--search.steps", "9", "--search.patience", "1")
    run = run_of(tiny_config(*FIXED, *settings))
    engine = find_ranks(run)
    assert engine.global_step == 9
    assert vars(engine.lora.shared.passes) == {"forward": 9, "backward": 9}
    lines = read_json_lines(run.folder.search_metrics)
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 9]
    for line in lines:
        assert line["train_loss"] > 0
        assert (line["val_loss"], line["implicit_to_direct"], line["cosine"]) == (None, None, None)
    points = np.stack(trajectory.read(run.folder.trajectory).alpha)
    assert (points == 0.25).all()
    assert [layer.rank for layer in ranks.load(run.folder.ranks).layers] == [4] * 4
