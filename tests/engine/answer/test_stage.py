"""The answer of whole runs: every task and base, the rules, another answer from the same search, kills in between."""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.checkpoint import checkpoint

from autolora.configs.errors import UserError
from autolora.configs.files import to_yaml
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine import ranks
from autolora.engine.answer import stage as answer_stage
from autolora.engine.answer.sample import Sample
from autolora.engine.answer.shares import Shares
from autolora.engine.answer.stage import answer
from autolora.engine.ranks.evidence import Evidence
from autolora.engine.report.summary import print_result
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.run.program import commit
from autolora.engine.search.found import read_numbers, searched_model
from autolora.engine.search.stage import search
from autolora.engine.stages import run_stages
from autolora.problems.models import recompute

CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "bert": ("bert", ()),
    "parts of a fused layer": ("gpt2", ("--lora.target_modules", "[c_attn.q,c_attn.v]")),
    "llama": ("llama", ()),
    "bf16": ("bert", ("--precision", "bf16")),
    "sigmoid": ("bert", ("--search.constraint", "sigmoid")),
    "paper's scale": ("bert", ("--search.scale", "paper")),
}


@pytest.mark.parametrize("case", list(CASES))
def test_every_layer_has_shares_that_add_up(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], case: str
) -> None:
    kind, arguments = CASES[case]
    # Not so far from the start that three or six nodes miss what lies between.
    run = run_of(tiny_config("--search.steps", "12", "--search.learning_rate", "1e-2", *arguments, kind=kind))
    search(run)
    answer(run)
    record = ranks.load(run.folder.ranks)
    assert json.loads(run.folder.answer.read_text())["commit"] == commit()
    evidence = record.evidence
    assert evidence is not None
    assert evidence.rows == 32
    assert evidence.share_total == pytest.approx(sum(sum(layer.share) for layer in record.layers), rel=1e-6)
    assert evidence.share_total == pytest.approx(sum(x.layer_share or 0.0 for x in record.layers), rel=1e-6)
    # Few steps: the gain is a few thousandths, and bf16 rounds it.
    assert evidence.share_total + evidence.head_share == pytest.approx(
        evidence.fall, rel=0.02, abs=5e-4 if case == "bf16" else 2e-4
    )
    assert [point.at for point in evidence.rank_curve] == [1, 2, 4]
    for layer in record.layers:
        assert len(layer.share) == len(layer.share_standard_error) == len(layer.singular_values) == 4
        assert list(layer.singular_values) == sorted(layer.singular_values, reverse=True)


def test_rows_are_drawn_not_sources_and_those_of_one_source_follow_each_other(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a source with many rows would be drawn more often, and the sample would have few sources."""
    run = run_of(tiny_config("--answer.rows", "40", "--task.train_rows", "400"))
    owners = np.repeat(np.arange(50), 8)  # 50 sources of 8 rows
    named = run.data.train.add_column("source", [f"{owner}" for owner in owners])
    monkeypatch.setitem(vars(run), "data", dataclasses.replace(run.data, train=named))
    sample = answer_stage.sample_of(run, np.arange(400))
    assert len(sample.rows) == 40
    assert sample.source_count > 20  # of 40 rows drawn among 50 sources; whole sources would be 5
    names = sample.rows["source"][:]
    assert len(list(itertools.groupby(names))) == sample.source_count


def test_numbers_have_the_log_loss_of_a_normal_error(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], tmp_path: Path
) -> None:
    words = ["good", "bad", "fine", "dull"]
    rows = "".join(f"the film was {words[i % 4]},{i % 4 + 0.1 * (i % 3)}\n" for i in range(80))
    (tmp_path / "numbers.csv").write_text("text,label\n" + rows)
    data = ("--task.type", "text", "--task.path", str(tmp_path / "numbers.csv"), "--task.kind", "regression")
    run = run_of(tiny_config(*data, "--search.steps", "20", "--search.learning_rate", "3e-2"))
    search(run)
    answer(run)
    evidence = ranks.load(run.folder.ranks).evidence
    assert evidence is not None
    assert evidence.share_total + evidence.head_share == pytest.approx(evidence.fall, rel=0.05, abs=1e-3)
    assert evidence.temperature > 0  # the variance of the error


def test_the_searched_model_is_the_one_that_the_search_left(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config("--lora.modules_to_save", "[pooler]"))
    engine = search(run)
    batch = run.data.collate(run.data.train.__getitems__(list(range(8))))
    model, gates = searched_model(run)
    found = []
    for one, its_gates in ((engine.lora.module, engine.lora.gates), (model, gates)):
        one.eval()
        with torch.no_grad(), its_gates.open(torch.ones(len(gates.names), gates.k)):
            found.append(one(**batch).logits)
    assert torch.equal(*found)
    assert torch.allclose(read_numbers(run.folder)["alpha"], engine.alpha())


def test_the_shares_too_are_measured_with_blocks_that_are_computed_again(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a model that fits into memory only with gradient checkpointing would run out of it after its search."""
    again, found = 0, {}

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal again
        again += 1
        return checkpoint(*arguments, **options)

    monkeypatch.setattr(recompute, "checkpoint", counted)
    for name in ("false", "true"):
        run = run_of(tiny_config("--name", name, "--model.gradient_checkpointing", name, "--search.steps", "12"))
        search(run)
        again = 0
        answer(run)
        found[name] = (again > 0, [layer.share for layer in ranks.load(run.folder.ranks).layers])
    assert (found["false"][0], found["true"][0]) == (False, True)
    assert found["false"][1] == found["true"][1]


@pytest.mark.parametrize("rule", ["shares", "size"])
@pytest.mark.parametrize("init", ["scratch", "search"])
def test_a_run_by_shares_or_size_keeps_to_its_budget(
    tiny_config: Callable[..., RunConfig], rule: str, init: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evidence, "learned", True)  # so few steps teach nothing, and every layer would get rank 1
    config = tiny_config(
        "--answer.rule", rule, "--answer.budget", "0.5", "--retrain.init", init, "--search.steps", "20"
    )
    folder = run_stages(Request(config, "all", False, "test"), StopRequest(), draw=False)
    record = ranks.load(folder.ranks)
    assert record.rule == rule
    assert 1 <= sum(layer.rank for layer in record.layers) <= 2  # four layers of one shape
    lines = [json.loads(line) for line in folder.search_metrics.read_text().splitlines()]
    assert all("mean_rank" not in line for line in lines)
    assert record.lora_parameters == json.loads(folder.metrics.read_text())["lora_parameters"]


def test_labels_of_noise_are_retrained_at_rank_1_and_the_run_says_so(
    tiny_config: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = answer_stage.measure

    def nothing(*arguments: Any) -> Any:
        evidence, shares = measured(*arguments)
        return dataclasses.replace(evidence, gain=0.0), shares

    monkeypatch.setattr(answer_stage, "measure", nothing)
    request = Request(tiny_config("--answer.rule", "shares"), "all", False, "test")
    folder = run_stages(request, StopRequest(), draw=False)
    record = ranks.load(folder.ranks)
    assert {layer.rank for layer in record.layers} == {1}
    assert "has not learned anything that shows on D_val" in str(record.note)
    assert json.loads(folder.ranks.read_text())["sufficient_rank"] is None
    adapter = json.loads((folder.adapter / "adapter_config.json").read_text())
    assert {adapter["r"], *adapter["rank_pattern"].values()} == {1}
    assert len(adapter["target_modules"]) == len(record.layers)
    print_result(folder)
    assert "has not learned anything that shows on D_val" in " ".join(capsys.readouterr().out.split())


def test_shares_need_no_trajectory(tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]) -> None:
    """A damaged trajectory.parquet had made the answer end with an error."""
    run = run_of(tiny_config("--answer.rule", "shares"))
    search(run)
    run.folder.trajectory.write_bytes(b"no parquet")
    answer(run)
    assert ranks.load(run.folder.ranks).ranks


def test_no_rows_measure_nothing(tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]) -> None:
    run = run_of(tiny_config("--answer.rows", "0"))
    search(run)
    answer(run)
    record = ranks.load(run.folder.ranks)
    assert record.evidence is None
    assert all(layer.rank > 0 and layer.singular_values and not layer.share for layer in record.layers)
    with pytest.raises(UserError, match=r"--answer\.rows: 0 is not allowed for --answer\.rule shares"):
        tiny_config("--answer.rows", "0", "--answer.rule", "shares")


def test_the_record_of_a_finished_run_is_written_again_once_a_damaged_one_is_removed(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the message about a damaged ranks.json promises."""
    config = tiny_config()
    folder = run_stages(Request(config, "all", False, "test"), StopRequest())
    expected = folder.ranks.read_bytes()
    folder.ranks.unlink()
    monkeypatch.setattr("autolora.engine.answer.find.search", lambda *_: pytest.fail("the search was repeated"))
    run_stages(Request(config, "search", False, "test"), StopRequest())
    assert folder.ranks.read_bytes() == expected


def test_a_stopped_answer_begins_anew_without_another_search(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    whole = run_stages(Request(config, "search", False, "test"), StopRequest(), draw=False)
    expected = whole.ranks.read_bytes()

    stopped = dataclasses.replace(config, name="stopped")
    stop = StopRequest()
    measured = answer_stage.measure

    def stopping(*arguments: Any) -> Any:
        stop.code = 130
        return measured(*arguments)

    monkeypatch.setattr(answer_stage, "measure", stopping)
    with pytest.raises(Interrupted):
        run_stages(Request(stopped, "search", False, "test"), stop)
    folder = RunFolder.of(stopped)
    assert folder.search_summary.exists()
    assert not folder.ranks.exists()
    monkeypatch.setattr(answer_stage, "measure", measured)
    monkeypatch.setattr("autolora.engine.answer.find.search", lambda *_: pytest.fail("the search was repeated"))
    other = with_values(stopped, {"answer.tolerance": 0.06})
    run_stages(Request(other, "search", False, "test"), StopRequest(), draw=False)
    assert folder.config.read_text() == to_yaml(other), "config.yaml tells what made ranks.json"
    folder.ranks.unlink()
    run_stages(Request(stopped, "search", False, "test"), StopRequest(), draw=False)
    assert folder.ranks.read_bytes() == expected


def test_an_answer_on_other_rows_than_the_search_had_is_refused(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    config = tiny_config()
    search(run_of(config))
    other = run_of(tiny_config("--task.train_rows", "60"))
    with pytest.raises(UserError, match=r"no longer gives the training rows .* \(64 then, 60 now\)"):
        answer(other)
    assert not other.folder.ranks.exists()


def test_losses_that_are_not_finite_are_left_out_with_a_warning(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch,
    log_lines: list[str],
) -> None:  # fmt: skip
    measured = answer_stage.measure

    def diverged(*arguments: Any) -> Any:
        evidence, shares = measured(*arguments)
        return dataclasses.replace(evidence, gain=math.nan), shares

    monkeypatch.setattr(answer_stage, "measure", diverged)
    run = run_of(tiny_config("--search.steps", "2"))
    search(run)
    answer(run)
    assert ranks.load(run.folder.ranks).evidence is None
    assert any(line.startswith("WARNING answer: losses of the searched model are not finite") for line in log_lines)


def test_the_error_of_a_layer_is_not_the_sum_of_those_of_its_components() -> None:
    sums = torch.tensor([[[1.0, -1.0]], [[-1.0, 1.0]]])  # one component gains what the other loses
    found = answer_stage._columns(Shares(sums, torch.ones(2), torch.tensor([True, False])))
    assert found["share_standard_error"].tolist() == [[1.0, 1.0]]
    assert found["layer_share_standard_error"].tolist() == [0.0]


@pytest.mark.parametrize(("rows", "measured"), [(16, True), (14, False)])
def test_from_8_rows_of_d_val_on_it_is_measured(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], log_lines: list[str], rows: int,
    measured: bool,
) -> None:  # fmt: skip
    run = run_of(tiny_config("--search.steps", "2", "--task.train_rows", str(rows)))
    search(run)
    answer(run)
    assert (ranks.load(run.folder.ranks).evidence is not None) is measured
    assert any("D_val has 7 rows; shares and the curve need 8" in line for line in log_lines) is not measured


@pytest.mark.trains
def test_the_answer_is_measured_on_d_val_and_the_head_alone_learns_on_d_tr(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On rows that W was trained on, LoRA and every rank would look better than they are."""

    class Seen(Exception):
        pass

    def seen(run: Context, d_tr: Dataset, sample: Sample) -> Any:
        raise Seen(d_tr["input_ids"][:], sample.rows["input_ids"][:])

    run = run_of(tiny_config("--search.steps", "2", "--task.validation_share", "0.25"))
    search(run)
    monkeypatch.setattr(answer_stage, "train_head", seen)
    with pytest.raises(Seen) as found:
        answer(run)
    expected = [run.data.train.select(half)["input_ids"][:] for half in run.halves()]
    assert [len(rows) for rows in expected] == [48, 16]
    assert [sorted(rows) for rows in found.value.args] == [sorted(rows) for rows in expected]
