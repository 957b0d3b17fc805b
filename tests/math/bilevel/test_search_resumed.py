"""A search that was stopped and resumed ends with the same bits as one that was not stopped."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import read_json_lines
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.search.search import SearchHook, search
from tests.helpers.paths import ROOT


def scramble() -> None:
    """Another process has other random states; none of them may matter."""
    random.seed(77)
    np.random.seed(77)
    torch.manual_seed(77)
    torch.rand(3)


def result(run: Context) -> dict[str, Any]:
    """All that a search leaves, without its times."""
    lines = read_json_lines(run.folder.search_metrics)
    return {
        "weights": {name: value.tolist() for name, value in load_file(run.folder.search_weights).items()},
        "numbers": run.folder.search_numbers.read_bytes(),
        "trajectory": pd.read_parquet(run.folder.trajectory).to_dict("list"),
        "lines": [{key: value for key, value in line.items() if key != "seconds"} for line in lines],
    }


class StopAt(StopRequest):
    """A signal comes during this step. (One before the first step would end a search while its model is loaded, so
    that nothing could be resumed.)"""

    def __init__(self, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        original = SearchHook.after_step

        def after_step(hook: SearchHook, engine: Any, over: bool) -> None:
            if engine.global_step == step and hook.stop is self:
                self.code = 130
            original(hook, engine, over)

        monkeypatch.setattr(SearchHook, "after_step", after_step)


OWN = ROOT / "tests" / "helpers" / "own_hypergradients.py"
CASES = {
    "darts": ((), (3, 8)),
    "sama": (("--hypergradient.type", "sama"), (3,)),
    "one's own that carries a mean": (("--hypergradient.type", f"{OWN}:Carrying"), (3,)),
    "one's own that draws": (("--hypergradient.type", f"{OWN}:Drawing"), (6,)),
    "the unroll of all inner steps": (
        ("--hypergradient.type", "unrolled", "--search.unroll_steps", "3", "--model.attention", "eager"),
        (4,),
    ),
    "without outer steps": (("--hypergradient.type", "none"), (3,)),
    "settled": (("--search.selection_learning_rate", "1e-12", "--search.patience", "2"), (5,)),
}


@pytest.mark.trains
@pytest.mark.parametrize("case", CASES)
def test_stopped_and_resumed_is_bit_equal_to_uninterrupted(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    arguments, stops = CASES[case]
    common = ("--search.steps", "8", "--search.scheduler", "cosine", "--lora.dropout", "0.1", *arguments)
    whole = run_of(tiny_config("--name", "whole", *common, "--search.checkpoint_every", "3"))
    search(whole)
    expected = result(whole)
    for stop in stops:
        config, request = tiny_config("--name", f"stopped{stop}", *common), StopAt(stop, monkeypatch)
        scramble()
        if expected["lines"][-1]["step"] == stop:
            # The last step is done: there is nothing left to stop.
            search(run_of(config, request))
            assert request.code == 130
        else:
            with pytest.raises(Interrupted):
                search(run_of(config, request))
            scramble()
            again = run_of(config)
            assert not again.folder.search_summary.exists()
            search(again)
        assert result(run_of(config)) == expected
        assert not run_of(config).folder.search_checkpoint.exists()


@pytest.mark.trains
def test_a_kill_goes_on_from_the_last_checkpoint_and_writes_no_line_twice(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--search.steps", "8", "--search.log_every", "1", "--search.checkpoint_every", "3")
    whole = run_of(tiny_config("--name", "whole", *common))
    search(whole)
    config = tiny_config("--name", "killed", *common)
    original = SearchHook.after_step

    def die(self: SearchHook, engine: Any, over: bool) -> None:
        original(self, engine, over)
        if engine.global_step == 5:  # lines up to 5 are written, the checkpoint is of step 3
            raise MemoryError

    monkeypatch.setattr(SearchHook, "after_step", die)
    killed = run_of(config)
    with pytest.raises(MemoryError):
        search(killed)
    assert [line["step"] for line in read_json_lines(killed.folder.search_metrics)] == [1, 2, 3, 4, 5]
    with open(killed.folder.search_metrics, "a") as file:
        file.write('{"step": 6, "train_lo')
    monkeypatch.setattr(SearchHook, "after_step", original)
    again = run_of(config)
    search(again)
    assert result(again) == result(whole)
