"""AdaLoRA: its phases, its allocation at every step, and its scale."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import AdaLoraModel

from autolora.engine import ranks
from autolora.engine.retrain.methods.adalora import Allocate, initial_rank, schedule
from autolora.engine.store.folder import RunFolder
from autolora.problems.models.attach import lora_layers
from tests.helpers.stages import Stages

STEPS = 24
R = 2
LAYERS = 4
ARGUMENTS = (
    "--method",
    "adalora",
    "--lora.r",
    str(R),
    "--retrain.learning_rate",
    "3e-2",
    "--retrain.max_steps",
)


@pytest.mark.parametrize("steps", [10, 11, 17, 4321])
def test_every_phase_has_steps(steps: int) -> None:
    phases = schedule(steps)
    assert phases["total_step"] == steps
    assert 2 <= phases["tinit"] < steps - phases["tfinal"] < steps
    assert phases["deltaT"] >= 1


def test_the_initial_rank_is_half_as_much_again_rounded_up() -> None:
    assert [initial_rank(rank) for rank in (1, 2, 3, 8)] == [2, 3, 5, 12]


@pytest.mark.trains
def test_ranks_change_and_the_budget_is_met(
    run_all: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[str, int]] = []
    steps: list[int] = []
    original = Allocate.on_optimizer_step
    of_peft = AdaLoraModel.update_and_allocate

    def allocate_by_peft(tuner: AdaLoraModel, step: int) -> None:
        steps.append(step)
        of_peft(tuner, step)

    def allocate(self: Allocate, *arguments: Any, **options: Any) -> None:
        factors = {n: p for n, p in self.tuner.model.named_parameters() if ".lora_" in n}
        assert any(p.grad is not None and p.grad.any() for p in factors.values()), (
            "importance reads the gradients"
        )
        original(self, *arguments, **options)
        found.append({n: int((p != 0).sum()) for n, p in factors.items() if ".lora_E." in n})

    monkeypatch.setattr(Allocate, "on_optimizer_step", allocate)
    monkeypatch.setattr(AdaLoraModel, "update_and_allocate", allocate_by_peft)
    folder = run_all(*ARGUMENTS, str(STEPS))
    assert len(found) == STEPS
    assert steps == list(range(1, STEPS + 1)), "PEFT counts the steps of its schedule from 1"
    totals = [sum(kept.values()) for kept in found]
    phases = schedule(STEPS)
    # After the first step the rate has still been 0 (warm-up), and with it E.
    assert totals[1 : phases["tinit"]] == [LAYERS * initial_rank(R)] * (phases["tinit"] - 1)
    assert totals[-phases["tfinal"] - 1 :] == [LAYERS * R] * (phases["tfinal"] + 1)
    assert sorted(totals[1:], reverse=True) == totals[1:]
    final = list(found[-1].values())
    assert len(set(final)) > 1, "layers differ in rank"
    record = ranks.load(folder.ranks)
    assert (record.rule, record.mean_rank, list(record.ranks.values())) == ("adalora", R, final)


@pytest.mark.parametrize(("scale", "expected"), [("mean_rank", 16 / 12**0.5), ("fixed", 16 / 3)])
def test_its_scale_is_that_of_the_initial_rank(
    new_run: Callable[..., Stages], scale: str, expected: float
) -> None:
    run = new_run(*ARGUMENTS, str(STEPS), "--retrain.scale", scale)
    model: Any = run.prepared().model
    assert initial_rank(R) == 3
    layers: list[Any] = list(lora_layers(model).values())
    # PEFT's forward pass divides by ranknum.
    found = [layer.scaling["default"] / float(layer.ranknum["default"]) for layer in layers]
    assert found == pytest.approx([expected] * LAYERS)


def test_the_plain_lora_that_is_evaluated_and_saved_computes_what_was_trained(
    new_run: Callable[..., Stages],
) -> None:
    run = new_run(*ARGUMENTS, str(STEPS), dropout=0.0)
    prepared = run.prepared()
    batch = run.rows.train.batch(range(6))
    torch.manual_seed(0)
    model: Any = prepared.model.eval()
    with torch.no_grad():
        for number, layer in enumerate(lora_layers(model).values()):
            found: Any = layer
            found.lora_E["default"].normal_()
            # as the allocation leaves what it has dropped
            found.lora_E["default"][: number % 3] = 0
            found.lora_B["default"].normal_(std=0.3)
        expected = model(**batch).logits
        assert prepared.finish is not None
        plain = prepared.finish()
        torch.testing.assert_close(plain.model(**batch).logits, expected, rtol=1e-4, atol=1e-5)
    assert plain.record is not None
    assert [layer.rank for layer in plain.record.layers] == [3, 2, 1, 3]
