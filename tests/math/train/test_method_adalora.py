"""AdaLoRA: its phases, its allocation at every step, and its scale."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from autolora.configs.requests import Request
from autolora.configs.schema import Adalora, RunConfig
from autolora.engine import ranks
from autolora.engine.retrain.methods import METHODS
from autolora.engine.retrain.methods.adalora import Allocate, initial_rank, schedule
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.attach import lora_layers

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


@pytest.mark.parametrize(("scale", "expected"), [("mean_rank", 16 / 12**0.5), ("fixed", 16 / 3)])
def test_its_scale_is_that_of_the_initial_rank(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], scale: str, expected: float
) -> None:
    run = run_of(tiny_config(*ARGUMENTS, str(STEPS), "--retrain.scale", scale))
    model: Any = METHODS[Adalora](run.base(), run).model
    assert initial_rank(R) == 3
    layers: list[Any] = list(lora_layers(model).values())
    # PEFT's forward pass divides by ranknum.
    found = [layer.scaling["default"] / float(layer.ranknum["default"]) for layer in layers]
    assert found == pytest.approx([expected] * LAYERS)


def test_the_plain_lora_that_is_evaluated_and_saved_computes_what_was_trained(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config(*ARGUMENTS, str(STEPS), dropout=0.0))
    prepared = METHODS[Adalora](run.base(), run)
    batch = run.data.collate(run.data.train.__getitems__(list(range(6))))
    torch.manual_seed(0)
    model: Any = prepared.model.eval()
    with torch.no_grad():
        for number, layer in enumerate(lora_layers(model).values()):
            found: Any = layer
            found.lora_E["default"].normal_()
            found.lora_E["default"][: number % 3] = 0  # as the allocation leaves what it has dropped
            found.lora_B["default"].normal_(std=0.3)
        expected = model(**batch).logits
        assert prepared.finish is not None
        plain = prepared.finish()
        torch.testing.assert_close(plain.model(**batch).logits, expected, rtol=1e-4, atol=1e-5)
    assert plain.record is not None
    assert [layer.rank for layer in plain.record.layers] == [3, 2, 1, 3]
