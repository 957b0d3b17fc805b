"""What a search leaves beside its steps: log lines, checkpoints when they are due, one record, its own time."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from autolora.configs.schema import RunConfig
from autolora.engine.disk import checkpoint, newest
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.search import hook, trajectory
from autolora.engine.search.stage import search
from autolora.problems.machine.compute import choose_compute
from tests.helpers.searching import find_ranks


@pytest.mark.trains
def test_checkpoints_come_when_due_and_are_gone_in_the_end(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    original = checkpoint.save

    def save(folder: Path, state: dict[str, int]) -> None:
        steps.append(state["step"])
        original(folder, state)

    monkeypatch.setattr(hook.checkpoint, "save", save)
    run = run_of(tiny_config("--search.steps", "9", "--search.checkpoint_every", "3"))
    search(run)
    assert steps == [3, 6]
    assert newest.peek(run.folder.search_checkpoint) == {}
    assert run.folder.search_summary.exists()


@pytest.mark.trains
def test_the_record_is_that_of_the_last_step(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config("--search.steps", "5", "--lora.k", "3"))
    engine = find_ranks(run)
    record = json.loads(run.folder.ranks.read_text())
    assert [layer["name"] for layer in record["layers"]] == engine.lora.gates.names
    assert torch.equal(torch.tensor([layer["alpha"] for layer in record["layers"]]), engine.alpha())
    assert [layer["rank"] for layer in record["layers"]] == engine.ranks()
    *_, line = run.folder.search_metrics.read_text().splitlines()
    assert json.loads(line)["mean_rank"] == record["mean_rank"]
    per_rank = engine.lora.gates.parameters_per_rank()
    assert record["lora_parameters"] == sum(layer["rank"] * per_rank[layer["name"]] for layer in record["layers"])
    saved = load_file(run.folder.search_weights)
    trained = {name: p for name, p in engine.lora.module.named_parameters() if p.requires_grad}
    assert saved.keys() == trained.keys()
    assert all(torch.equal(saved[name], p) for name, p in trained.items())
    summary = json.loads(run.folder.search_summary.read_text())
    assert (summary["steps"], summary["stopped"]) == (5, "steps used up")
    assert summary["passes"] == {"forward": 20, "backward": 20}


@pytest.mark.trains
def test_a_search_that_settles_between_two_logged_steps_records_its_last_one(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    """The report and the warnings took the last logged step for the end."""
    still = ("--search.selection_learning_rate", "1e-12", "--search.patience", "2", "--search.check_every", "4")
    run = run_of(tiny_config("--search.steps", "50", "--search.log_every", "1000", *still))
    engine = find_ranks(run)
    assert engine.global_step < 50
    (line,) = run.folder.search_metrics.read_text().splitlines()
    assert json.loads(line)["step"] == engine.global_step
    found = trajectory.read(run.folder.trajectory)
    assert found.steps[-1] == engine.global_step
    assert torch.equal(torch.from_numpy(found.alpha[-1]), engine.alpha().float())


@pytest.mark.trains
def test_the_time_before_a_stop_counts(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch,
    stop_at: Callable[[int], None],
) -> None:  # fmt: skip
    clock = [0.0]

    def tick() -> float:
        clock[0] += 1.0
        return clock[0]

    monkeypatch.setattr(hook.time, "perf_counter", tick)
    config = tiny_config("--search.steps", "5")
    stop_at(3)
    with pytest.raises(Interrupted):
        search(run_of(config))
    stop_at(0)
    run = run_of(config)
    search(run)
    # One tick a step by this clock, before and after the stop.
    assert json.loads(run.folder.search_summary.read_text())["seconds"] == pytest.approx(5.0)
    lines = [json.loads(line) for line in run.folder.search_metrics.read_text().splitlines()]
    assert [line["seconds"] for line in lines] == pytest.approx([1.0] * 3), "those of one step"


@pytest.mark.trains
@pytest.mark.parametrize(("kind", "saved"), [("exact", 4), ("unrolled", 6)])
def test_a_checkpoint_waits_for_the_outer_step_where_all_inner_steps_are_read(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], stop_at: Callable[[int], None],
    kind: str, saved: int,
) -> None:  # fmt: skip
    """As it does not hold the inner steps, a search that resumes between two outer steps would have lost them."""
    stop_at(4)
    run = run_of(tiny_config("--hypergradient.type", kind, "--search.unroll_steps", "3", "--search.steps", "9"))
    with pytest.raises(Interrupted):
        search(run)
    found = checkpoint.load(run.folder.search_checkpoint)
    assert found is not None
    assert found["step"] == saved


@pytest.mark.trains
def test_a_search_that_resumes_in_another_precision_says_so(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch,
    stop_at: Callable[[int], None], log_lines: list[str],
) -> None:  # fmt: skip
    """The settings have the word auto both times, and what it stands for was not compared."""
    config = tiny_config("--precision", "auto", "--device", "auto")
    for fast, stop in ((True, 2), (True, 4), (False, 0)):
        monkeypatch.setattr("autolora.problems.machine.compute.fast_bf16", lambda _, fast=fast: fast)
        stop_at(stop)
        with pytest.raises(Interrupted) if stop else nullcontext():
            search(run_of(config))
    said = [line for line in log_lines if "search: began" in line]
    device = str(choose_compute(config).device)
    assert said == [
        f"WARNING search: began on {device} in bf16 and resumes on {device} in fp32, so it ends at other numbers than "
        f"without the stop"
    ]


@pytest.mark.trains
def test_metrics_jsonl_has_a_line_a_logged_step(finished_run: Callable[..., RunFolder]) -> None:
    text = finished_run("bert", "--search.steps", "5").search_metrics.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5]
    for line in lines:
        assert {"step", "train_loss", "val_loss", "implicit_to_direct", "cosine", "seconds"} <= set(line)
        assert 0 < line["train_loss"] < 3
        assert 0 < line["val_loss"] < 3
        assert line["implicit_to_direct"] > 0
        assert -1 <= line["cosine"] <= 1
        assert line["seconds"] > 0
    # darts: an inner step, an outer step, two sides of the difference.
    assert [line["forward_passes"] for line in lines] == [8, 16, 20]
    assert [line["backward_passes"] for line in lines] == [8, 16, 20]


@pytest.mark.trains
def test_only_steps_with_an_outer_step_have_a_validation_loss(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Any]
) -> None:
    run = run_of(tiny_config("--search.unroll_steps", "3", "--search.log_every", "1", "--search.steps", "4"))
    search(run)
    text = run.folder.search_metrics.read_text()
    assert "NaN" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["val_loss"] is None for line in lines] == [True, True, False, True]
    for key in ("implicit_to_direct", "cosine"):  # of the last outer step
        assert [line[key] is None for line in lines] == [True, True, False, False]


@pytest.mark.trains
def test_a_validation_loss_is_the_mean_over_the_outer_steps_of_its_line(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Any]
) -> None:
    """Each had counted once per inner step, also in the line after its own."""

    def losses(every: int) -> list[Any]:
        asked = ("--search.unroll_steps", "2", "--search.log_every", str(every), "--search.steps", "10")
        run = run_of(tiny_config(*asked, "--name", f"e{every}"))
        search(run)
        return [json.loads(line)["val_loss"] for line in run.folder.search_metrics.read_text().splitlines()]

    single = losses(1)
    assert [loss is None for loss in single] == [True, False] * 5
    outer = single[1::2]
    assert losses(5) == pytest.approx([sum(outer[:2]) / 2, sum(outer[2:]) / 3])
