"""A search that was stopped and resumed ends with the same bits as one that was not stopped."""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from autolora.engine.disk.files import read_json, read_json_lines
from autolora.engine.interrupt import Interrupted, StopRequest
from autolora.engine.search.search import SearchHook
from tests.helpers.paths import ROOT
from tests.helpers.stages import Stages

pytestmark = pytest.mark.trains


def scramble() -> None:
    """Another process has other random states; none of them may matter."""
    random.seed(77)
    np.random.seed(77)
    torch.manual_seed(77)
    torch.rand(3)


def result(run: Stages) -> dict[str, Any]:
    """All that a search leaves, without its times."""
    lines = read_json_lines(run.folder.search_metrics)
    return {
        "weights": {
            name: value.tolist() for name, value in load_file(run.folder.search_weights).items()
        },
        "numbers": run.folder.search_numbers.read_bytes(),
        "trajectory": pd.read_parquet(run.folder.trajectory).to_dict("list"),
        "lines": [
            {key: value for key, value in line.items() if key != "seconds"} for line in lines
        ],
    }


class StopAt(StopRequest):
    """A signal comes during this step. (One before the first step would end a search while its
    model is loaded, so that nothing could be resumed.)"""

    def __init__(self, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        original = SearchHook.after_step

        def after_step(hook: SearchHook, engine: Any, over: bool) -> None:
            if engine.global_step == step and hook.world.stop is self:
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
        ("--hypergradient.type", "unrolled", "--search.unroll_steps", "3"),
        (4,),
    ),
    "without outer steps": (("--hypergradient.type", "none"), (3,)),
    "settled": (("--search.selection_learning_rate", "1e-12", "--search.patience", "2"), (5,)),
}


@pytest.mark.parametrize("case", CASES)
def test_stopped_and_resumed_is_bit_equal_to_uninterrupted(
    new_run: Callable[..., Stages], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    arguments, stops = CASES[case]
    common = (
        "--search.steps",
        "8",
        "--search.scheduler",
        "cosine",
        "--lora.dropout",
        "0.1",
        *arguments,
    )
    whole = new_run("--name", "whole", *common, "--search.checkpoint_every", "3")
    whole.search()
    expected = result(whole)
    for step in stops:
        given = ("--name", f"stopped{step}", *common)
        scramble()
        with suppress(Interrupted):
            new_run(*given, stop=StopAt(step, monkeypatch)).search()
        again = new_run(*given)
        was_last = expected["lines"][-1]["step"] == step  # nothing is left to stop
        assert again.folder.search_summary.exists() is was_last
        scramble()
        again.search()
        assert result(again) == expected
        assert not again.folder.search_checkpoint.exists()


def test_a_kill_goes_on_from_the_last_checkpoint_and_writes_no_line_twice(
    new_run: Callable[..., Stages], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--search.steps", "8", "--search.log_every", "1", "--search.checkpoint_every", "3")
    whole, killed, again = (
        new_run("--name", name, *common) for name in ("whole", "killed", "killed")
    )
    whole.search()
    original = SearchHook.after_step

    def die(self: SearchHook, engine: Any, over: bool) -> None:
        original(self, engine, over)
        if engine.global_step == 5:  # lines up to 5 are written, the checkpoint is of step 3
            raise MemoryError

    monkeypatch.setattr(SearchHook, "after_step", die)
    with pytest.raises(MemoryError):
        killed.search()
    monkeypatch.undo()
    assert [line["step"] for line in read_json_lines(killed.folder.search_metrics)] == [
        1,
        2,
        3,
        4,
        5,
    ]
    with open(killed.folder.search_metrics, "a") as file:
        file.write('{"step": 6, "train_lo')
    again.search()
    assert result(again) == result(whole)
    # Every step has a line with its seconds; those before the kill count in the total, too.
    seconds = [line["seconds"] for line in read_json_lines(again.folder.search_metrics)]
    total = read_json(again.folder.search_summary)["seconds"]
    assert min(seconds) > 0
    assert total == pytest.approx(sum(seconds))
