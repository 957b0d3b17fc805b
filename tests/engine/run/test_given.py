"""The workbench of a script: its rows, its halves, and a model that is as it was given before each training."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.engine.run.given import ScriptBench, dtype_of, same_random_numbers
from autolora.problems.models.load import BaseModel
from autolora.problems.tasks.given import GivenKind, GivenRows

CPU = torch.device("cpu")


class Tiny(nn.Module):
    """A body, which is frozen, and a head, which is trained whole."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(2, 2), nn.Linear(2, 1)


def bench(
    tmp_path: Path, *arguments: str, rows: int = 10, validation: int = 0, model: nn.Module | None = None
) -> ScriptBench:
    config = parse(["--precision", "fp32", "--device", "cpu", *arguments]).config
    given: Any = Tiny() if model is None else model
    source = [{"input_ids": [1] * (1 + i % 3)} for i in range(rows)]
    found = GivenRows(source, lambda examples: {"x": torch.zeros(len(examples))})
    return ScriptBench(config, BaseModel(given, ["head"]), GivenKind(None), found, validation, tmp_path, CPU)


def test_without_validation_rows_both_halves_are_drawn_by_seed(tmp_path: Path) -> None:
    d_tr, d_val = bench(tmp_path).halves()
    assert sorted([*d_tr, *d_val]) == list(range(10))
    assert len(d_val) == 5
    again, other = bench(tmp_path).halves(), bench(tmp_path, "--seed", "1").halves()
    assert again[1].tolist() == d_val.tolist()
    assert other[1].tolist() != d_val.tolist()


def test_validation_rows_are_the_last_ones_and_nothing_else_is_d_val(tmp_path: Path) -> None:
    d_tr, d_val = bench(tmp_path, validation=3).halves()
    assert (d_tr.tolist(), d_val.tolist()) == (list(range(7)), [7, 8, 9])


def test_each_training_begins_with_the_model_as_it_was_given(tmp_path: Path) -> None:
    run = bench(tmp_path)
    model = run.base().model
    body, head = model.body, model.head.weight.detach().clone()
    model.body = nn.Identity()
    with torch.no_grad():
        model.head.weight.add_(1)
    model.head.requires_grad_(False)
    assert run.base().model is model
    assert model.body is body
    assert torch.equal(model.head.weight, head)
    assert model.head.weight.requires_grad
    model.body = nn.Identity()
    run.put_back()
    assert model.body is body


@pytest.mark.parametrize("kernel", ["sdpa", "eager", None])
def test_second_derivatives_need_an_attention_that_has_them(tmp_path: Path, kernel: str | None) -> None:
    model: Any = Tiny()
    if kernel is not None:  # a model of one's own has no configuration
        model.config = type("Config", (), {"_attn_implementation": kernel})()
    run = bench(tmp_path, "--hypergradient.type", "cg", model=model)
    assert run.base(second_order=False)
    if kernel == "sdpa":
        with pytest.raises(UserError, match=r"^hypergradient: cg needs second .* attention 'sdpa' .* lacks; all"):
            run.base(second_order=True)
    else:
        assert run.base(second_order=True)


def test_the_dtype_is_that_of_the_first_weight_with_a_point(tmp_path: Path) -> None:
    model = nn.ModuleList([nn.Module(), nn.Linear(2, 2).to(torch.bfloat16), nn.Linear(2, 2)])
    model[0].register_parameter("packed", nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False))
    assert dtype_of(model) == torch.bfloat16
    assert dtype_of(nn.Identity()) == torch.float32
    assert bench(tmp_path).weights_dtype == torch.float32


@pytest.mark.parametrize("error", [None, KeyError])
def test_random_numbers_go_on_as_if_nothing_had_drawn_any(error: type[Exception] | None) -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = drawn()
    random.setstate(kept[0])
    np.random.set_state(kept[1])
    torch.set_rng_state(kept[2])
    try:
        with same_random_numbers(CPU):
            drawn()
            if error is not None:
                raise error
    except KeyError:
        pass
    assert drawn() == expected


def test_random_numbers_of_all_gpus_go_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeding before a training seeds all of them, and only that of the model was restored."""
    gpus = [1, 2]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(gpus))
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda states: gpus.__setitem__(slice(None), states))
    with same_random_numbers(CPU):
        gpus[:] = [42, 42]
    assert gpus == [1, 2]
