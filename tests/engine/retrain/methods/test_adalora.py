"""AdaLoRA: its phases, its allocation at every step, and that it resumes where it was stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.retrain.length import length_of
from autolora.engine.retrain.methods import METHODS
from autolora.engine.retrain.methods.adalora import Allocate, initial_rank, schedule
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.attach import lora_layers
from tests.helpers.stopping import StopAt

STEPS, R, LAYERS = 24, 2, 4
ARGUMENTS = ("--method", "adalora", "--lora.r", str(R), "--retrain.learning_rate", "3e-2", "--retrain.max_steps")


@pytest.mark.parametrize("steps", [10, 11, 17, 100, 4321])
def test_every_phase_has_steps(steps: int) -> None:
    phases = schedule(steps)
    assert phases["total_step"] == steps
    assert phases["tinit"] >= 2
    assert phases["tfinal"] >= 1
    assert phases["tinit"] < steps - phases["tfinal"]
    assert phases["deltaT"] >= 1


def test_the_initial_rank_is_half_as_much_again_rounded_up() -> None:
    assert [initial_rank(rank) for rank in (1, 2, 3, 8)] == [2, 3, 5, 12]


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(UserError, match=r"gives 9 optimiser steps, but --method adalora needs 10 or more"):
        schedule(9)


@pytest.mark.trains
@pytest.mark.parametrize(
    ("steps", "epochs", "accumulation", "expected"),
    [("null", "3", "1", 24), ("null", "0.5", "1", 4), ("7", "3", "1", 7), ("null", "3", "3", 9), ("12", "3", "4", 12)],
)
def test_steps_are_those_of_the_trainer(
    tiny_config: Callable[..., RunConfig], steps: str, epochs: str, accumulation: str, expected: int
) -> None:
    settings = ("--retrain.max_steps", steps, "--retrain.epochs", epochs)
    config = tiny_config(*settings, "--retrain.gradient_accumulation", accumulation, "--method", "lora")
    assert length_of(config.retrain, 64).steps == expected
    folder = run_stages(Request(config, "all", False, "test"), StopRequest(), draw=False)
    assert json.loads(folder.metrics.read_text())["steps"]["retrain"] == expected


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What every allocation step found and left."""
    seen: list[dict[str, Any]] = []
    original = Allocate.on_optimizer_step

    def watch(self: Allocate, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        factors = {n: p for n, p in self.tuner.model.named_parameters() if ".lora_" in n}
        gradient = max(float(p.grad.abs().max()) for p in factors.values() if p.grad is not None)
        original(self, args, state, control, **kwargs)
        kept = {n: int((p != 0).sum()) for n, p in factors.items() if ".lora_E." in n}
        seen.append({"step": state.global_step + 1, "gradient": gradient, "kept": kept})

    monkeypatch.setattr(Allocate, "on_optimizer_step", watch)
    return seen


@pytest.mark.trains
def test_ranks_change_and_the_budget_is_met(
    tiny_config: Callable[..., RunConfig], watched: list[dict[str, Any]]
) -> None:
    folder = run_stages(Request(tiny_config(*ARGUMENTS, str(STEPS)), "all", False, "x"), StopRequest(), draw=False)
    assert [x["step"] for x in watched] == list(range(1, STEPS + 1))
    assert all(x["gradient"] > 0 for x in watched), "the gradients are there when importance is computed"
    totals = [sum(x["kept"].values()) for x in watched]
    phases = schedule(STEPS)
    allocated = STEPS - phases["tfinal"]
    # After the first step the rate has still been 0 (warm-up), and with it E.
    assert totals[1 : phases["tinit"]] == [LAYERS * initial_rank(R)] * (phases["tinit"] - 1)
    assert totals[allocated - 1 :] == [LAYERS * R] * (STEPS - allocated + 1)
    assert sorted(totals[1:], reverse=True) == totals[1:]
    final = watched[-1]["kept"]
    assert len(set(final.values())) > 1, "layers differ in rank"
    record = ranks.load(folder.ranks)
    assert record.rule == "adalora"
    assert [layer.rank for layer in record.layers] == list(final.values())
    assert record.mean_rank == R


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 9, 20, STEPS])
def test_a_stopped_run_goes_on_to_the_same_ranks_and_weights(
    make_config: Callable[..., RunConfig], finished_run: Callable[..., RunFolder], tmp_path: Path, step: int
) -> None:
    whole = finished_run("bert", *ARGUMENTS, str(STEPS))
    config = make_config(tmp_path / "parts", "bert", *ARGUMENTS, str(STEPS))
    folder = RunFolder(Path(config.runs_folder) / "tiny")
    with pytest.raises(Interrupted):
        run_stages(Request(config, "all", False, "x"), StopAt(folder, step), draw=False)
    (checkpoint,) = folder.retrain.glob("checkpoint-*")
    assert 1 <= int(checkpoint.name.split("-")[1]) <= step
    run_stages(Request(config, "all", False, "x"), StopRequest(), draw=False)
    assert folder.ranks.read_text() == whole.ranks.read_text()
    found, expected = (load_file(x.adapter / "adapter_model.safetensors") for x in (folder, whole))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("component", 16 / 4), ("mean_rank", 16 / 12**0.5), ("fixed", 16 / 3), ("rslora", 16 / 3**0.5)],
)
def test_its_scale_is_that_of_the_initial_rank(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], scale: str, expected: float
) -> None:
    run = run_of(tiny_config(*ARGUMENTS, str(STEPS), "--retrain.scale", scale))
    run.task.rows()
    model: Any = METHODS["adalora"].prepare(run.base(), run, 8).model
    assert initial_rank(R) == 3
    layers: list[Any] = list(lora_layers(model).values())
    # PEFT's forward pass divides by ranknum.
    found = [layer.scaling["default"] / float(layer.ranknum["default"]) for layer in layers]
    assert found == pytest.approx([expected] * LAYERS)


@pytest.mark.trains
def test_the_reported_loss_is_the_tasks_own(tiny_config: Callable[..., RunConfig]) -> None:
    folder = run_stages(Request(tiny_config(*ARGUMENTS, "10"), "all", False, "x"), StopRequest(), draw=False)
    # The orthogonal regularisation of these matrices is above 0.5 (weight 0.5 x a norm of 2 and more).
    assert json.loads(folder.metrics.read_text())["loss"] < 0.8
