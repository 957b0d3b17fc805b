"""The workbench of a script: second derivatives of its model, and the random numbers of its
GPUs."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autolora.configs.errors import UserError
from autolora.engine.run.script import ScriptContext
from autolora.problems.machine.compute import same_random_numbers
from autolora.problems.models.load import BaseModel
from autolora.problems.rows import Rows
from autolora.problems.tasks.kinds import LabelKind
from tests.helpers.command import parse

CPU = torch.device("cpu")


@pytest.mark.parametrize("kernel", ["sdpa", "eager", None])
def test_second_derivatives_need_an_attention_that_has_them(
    tmp_path: Path, kernel: str | None
) -> None:
    model: Any = nn.Linear(2, 1)
    if kernel is not None:  # a model of one's own has no configuration
        model.config = SimpleNamespace(_attn_implementation=kernel)
    config = parse(["--precision", "fp32", "--device", "cpu", "--hypergradient.type", "cg"]).config
    examples = [{"input_ids": [1]}] * 10
    rows = Rows.of_script(examples, lambda batch: {"x": torch.zeros(len(batch))})
    run = ScriptContext(config, BaseModel(model, []), LabelKind(None), rows, 0, tmp_path, CPU)
    assert run.base(second_order=False)
    said = r"^hypergradient: cg needs second .* attention 'sdpa' .* lacks; all"
    with pytest.raises(UserError, match=said) if kernel == "sdpa" else nullcontext():
        run.base(second_order=True)


def test_random_numbers_of_all_gpus_go_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeding before a training seeds all of them, and only that of the model was restored."""
    gpus = [1, 2]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(gpus))
    monkeypatch.setattr(
        torch.cuda, "set_rng_state_all", lambda states: gpus.__setitem__(slice(None), states)
    )
    with same_random_numbers(CPU):
        gpus[:] = [42, 42]
    assert gpus == [1, 2]
