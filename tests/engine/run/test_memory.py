"""What a training will need, before it begins: measured on a row, told, and refused where it is not there."""

import gc
import logging
import weakref
from collections.abc import Callable

import pytest
import torch

from configs.errors import UserError
from configs.schema import RunConfig
from engine.run import memory
from engine.run.context import Context
from engine.run.memory import Activations, activations, check_memory
from engine.search.stage import build_search
from problems.machine.processes import Processes
from problems.models.attach import attach_components


def searched_model(run: Context) -> torch.nn.Module:
    assert len(run.data.train)  # the task learns its classes from the rows
    base = run.base()
    return attach_components(base.model, run.config.lora, run.task.peft_type, base.trained_whole)


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("batch", [1, 5, 16])
def test_activations_are_what_torch_saves_for_a_batch_of_the_longest_rows(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], kind: str, batch: int
) -> None:
    run = run_of(tiny_config(kind=kind, dropout=0.1))
    model = searched_model(run)
    found = activations(model, run.data, run.compute)
    longest = max(run.data.train, key=lambda row: row["length"])
    model.train()
    held, scores, _ = memory._held(model, run.data.collate([dict(longest) for _ in range(batch)]), run.compute)
    assert found.of(batch, again=False) == pytest.approx(held + scores, rel=0.05)
    assert found.blocks == 2
    assert found.of(batch, again=True) < found.of(batch, again=False)


def test_looking_changes_no_dropout_mask_and_no_mode(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config(dropout=0.1))
    model = searched_model(run).eval()
    before = torch.get_rng_state()
    activations(model, run.data, run.compute)
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training


def test_looking_keeps_nothing_in_memory(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config(dropout=0.1))
    model = searched_model(run)
    activations(model, run.data, run.compute)
    weights = [weakref.ref(weight) for weight in model.parameters()]
    del model
    gc.collect()
    assert not any(weight() is not None for weight in weights)


def test_the_peak_is_told_once_a_training(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(tiny_config())
    model = searched_model(run)
    with caplog.at_level(logging.INFO, "autolora"):
        for _ in range(2):
            check_memory(run, model, run.data, 8, per_weight=12, what="the search")
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
        check_memory(run, model, run.data, 9, per_weight=12, what="the search")
        assert asked.pop() == rows


def test_too_little_is_refused_with_what_saves_most(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free", lambda compute: 1000.0)
    run = run_of(tiny_config())
    with pytest.raises(UserError, match=r"^--search\.batch_size: .*--model\.gradient_checkpointing true.*") as refused:
        build_search(run, second_order=False)
    assert "\n" not in str(refused.value)
    build_search(run_of(tiny_config("--ignore_memory_estimate", "true")), second_order=False)


def test_a_saving_that_is_taken_is_not_proposed(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free", lambda compute: 1000.0)
    given = ("--model.gradient_checkpointing", "true", "--model.dtype", "bf16", "--search.batch_size", "1")
    with pytest.raises(UserError, match=r"what saves most: --task\.max_length \d+; --ignore"):
        build_search(run_of(tiny_config(*given)), second_order=False)


def test_a_block_computed_again_keeps_its_inputs() -> None:
    """By hand: 4 blocks, a row of 100 numbers of which 20 are scores, 5 a block's input."""
    found = Activations(fixed=40.0, row=100.0, scores=20.0, block=5.0, blocks=4)
    assert found.of(2, again=False) == 40 + 2 * (80 + 40)
    assert found.of(2, again=True) == 10 + 2 * (80 / 4 + 4 * 5 + 40)
