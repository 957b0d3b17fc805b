"""What a training will need, before it begins: told, and refused where it is not there, with what would save most."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.run import memory
from autolora.engine.run.activations import Activations
from autolora.engine.run.context import Context
from autolora.engine.run.memory import check_memory
from autolora.engine.run.savings import Training, savings
from autolora.engine.search.stage import build_search
from autolora.problems.machine.processes import Processes
from autolora.problems.models.attach import attach_components
from autolora.problems.tasks.token_loss import chunk


def searched_model(run: Context) -> torch.nn.Module:
    assert len(run.data.train)  # the task learns its classes from the rows
    base = run.base()
    return attach_components(base.model, run.config.lora, run.task.peft_type, base.trained_whole)


def test_the_peak_is_told_once_a_training(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(tiny_config())
    model = searched_model(run)
    with caplog.at_level(logging.INFO, "autolora"):
        for _ in range(2):
            check_memory(run, model, run.data, 8, per_weight=12, section="search")
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("memory: ")]
    assert "GiB at the peak of the search" in line


def test_each_of_several_processes_holds_its_own_rows_alone(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_config())
    model, asked = searched_model(run), []
    monkeypatch.setattr(Activations, "of", lambda self, rows, *, again: asked.append(rows) or 0.0)
    for processes, rows in ((1, 9), (2, 5), (4, 3)):
        run.processes = Processes(0, processes, 0)
        check_memory(run, model, run.data, 9, per_weight=12, section="search")
        assert asked.pop() == rows


@pytest.mark.parametrize("second_order", [False, True])
def test_second_derivatives_hold_three_times_as_much(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch,
    second_order: bool,
) -> None:  # fmt: skip
    needed: list[float] = []
    run = run_of(tiny_config("--hypergradient.type", "cg", "--lora.k", "1"))

    def seen(run: Context, training: Training) -> list[Any]:
        needed.append(training.bytes() - training.per_weight * training.trained)
        needed.append(training.held.of(training.rows, again=training.again))
        return savings(run, training)

    monkeypatch.setattr(memory, "free", lambda *_: 1000.0)
    monkeypatch.setattr(memory, "savings", seen)
    with pytest.raises(UserError) as refused:
        build_search(run, second_order=second_order)
    assert needed[0] == pytest.approx(needed[1] * (3 if second_order else 1))
    assert ("--hypergradient.type first_order" in str(refused.value)) is second_order, "then it saves most"


def test_too_little_is_refused_with_what_saves_most(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free", lambda *_: 1000.0)
    run = run_of(tiny_config())
    with pytest.raises(UserError, match=r"^--search\.batch_size: .*--model\.gradient_checkpointing true.*") as refused:
        build_search(run, second_order=False)
    assert "\n" not in str(refused.value)


def test_who_ignores_the_estimate_does_not_wait_for_it(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measurement is a forward pass, and might itself not fit."""
    monkeypatch.setattr(memory, "activations", lambda *_: pytest.fail("a batch was measured"))
    build_search(run_of(tiny_config("--ignore_memory_estimate", "true")), second_order=False)


@pytest.mark.parametrize(("device", "mib"), [("cpu", 96), ("cuda", 384)])
def test_the_loss_of_a_language_model_takes_three_parts_of_its_scores(device: str, mib: int) -> None:
    assert memory._LOSS * chunk(torch.device(device)) == mib * 2**20
