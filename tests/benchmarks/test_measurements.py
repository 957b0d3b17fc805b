"""Each benchmark on a tiny model: what its JSON holds. No time is asserted."""

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import torch

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.engine.disk.files import write_json
from autolora.engine.run.folder import RunFolder
from autolora.problems.hypergradients import HYPERGRADIENTS
from autolora.problems.tasks.sample import make_sample
from benchmarks import answer, data, growth, startup, step, total
from benchmarks.command import main
from benchmarks.stock import StockStep
from benchmarks.workload import PlainStep, SearchStep, Workload, make_workload

ModelFolder = Callable[..., Path]


@pytest.fixture
def work(model_folder: ModelFolder) -> Workload:
    values = {
        "model.name": str(model_folder("bert", 0.0)), "search.batch_size": 4, "lora.k": 4, "precision": "fp32",
        "device": "cpu",
    }  # fmt: skip
    return make_workload(values, None, rows=32)


@pytest.fixture
def glue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the hub's layout, with sentences of the sample task, and an empty cache."""
    sample = make_sample(0, train=40, validation=10, test=10)
    folder = tmp_path / "glue"
    folder.mkdir()
    lines = ["---", "configs:", "- config_name: sst2", "  data_files:"]
    for name in ("train", "validation"):
        split = sample[name]
        pd.DataFrame({"sentence": split["sentence"], "label": split["label"]}).to_parquet(folder / f"{name}.parquet")
        lines += [f"  - split: {name}", f"    path: {name}.parquet"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return folder


@pytest.mark.slow
@pytest.mark.trains
def test_step(model_folder: ModelFolder, tmp_path: Path) -> None:
    place = tmp_path / "step.json"
    sizes = ["--rounds", "1", "--warmup", "1", "--stock_rounds", "1", "--batch_size", "4", "--stock_length", "80"]
    argv = ["--json", str(place), "--model", str(model_folder("bert")), "--k", "4", "--device", "cpu", *sizes]
    assert main(step.StepSettings, step.measure, argv) == 0
    numbers = json.loads(place.read_text())
    assert set(numbers["ratio_to_lora"]) == {*HYPERGRADIENTS, "adalora"}
    assert all(math.isfinite(x) and x > 0 for x in numbers["ratio_to_lora"].values())
    assert set(numbers["stock"]) == {"dynamic padding", "with roll_back", "the paper's way"}
    assert set(numbers["stock"]["the paper's way"]["times_slower_than"]) == set(HYPERGRADIENTS)
    assert len(numbers["tokens_per_row"]) == 1


def test_step_refuses_an_unknown_hypergradient(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(step.StepSettings, step.measure, ["--methods", "[newton]"]) == 2
    assert "newton" in capsys.readouterr().err


def test_stock_padding_changes_no_loss(work: Workload) -> None:
    """What (c) adds is computed for nothing: the padded batch has the same loss."""
    stock = StockStep(work, pad_to=64)
    (batch,) = work.batches(1)
    stock(batch)
    padded = stock.handed.batch
    assert padded["input_ids"].shape == (4, 64)
    model = stock.engine.lora.module.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**padded).loss, model(**batch).loss)


@pytest.mark.parametrize("roll_back", [False, True])
def test_stock_betty_moves_both_levels(work: Workload, roll_back: bool) -> None:
    stock = StockStep(work, roll_back=roll_back)
    weights = [p.detach().clone() for p in stock.engine.lora.trainable_parameters()]
    for batch in work.batches(2):
        stock(batch)
    assert any(not torch.equal(a, b) for a, b in zip(weights, stock.engine.lora.trainable_parameters(), strict=True))
    assert stock.engine.selection.module.beta.abs().max() > 0


def test_a_frozen_search_step_is_the_plain_step(work: Workload) -> None:
    """What `gating` times does the same work: the weights after a step agree with plain LoRA's."""
    frozen, plain = SearchStep(work, "first_order", frozen=True), PlainStep(work, work.lora())
    frozen.engine.lora.scheduler = None  # the warm-up of its rate
    for group in frozen.engine.lora.optimizer.param_groups:
        group["lr"] = plain.optimizer.param_groups[0]["lr"]
    (batch,) = work.batches(1)
    frozen(batch)
    plain(batch)
    assert not frozen.engine.selection.module.beta.any()
    for ours, theirs in zip(frozen.engine.lora.trained, plain.trained, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
@pytest.mark.trains
def test_growth(tmp_path: Path) -> None:
    place, plot = tmp_path / "growth.json", tmp_path / "growth.png"
    sizes = ["--k", "[2,4]", "--layers", "[1]", "--length", "[8]", "--modules", "1", "--hidden", "64"]
    few = ["--base_k", "4", "--base_layers", "1", "--base_length", "8", "--rounds", "1", "--warmup", "1"]
    argv = ["--json", str(place), "--plot", str(plot), *sizes, *few, "--methods", "[darts]", "--device", "cpu"]
    assert main(growth.GrowthSettings, growth.measure, argv) == 0
    numbers = json.loads(place.read_text())
    assert [row["value"] for row in numbers["axes"]["k"]] == [2, 4]
    assert set(numbers["axes"]) == {"k", "layers", "length", "modules"}
    assert set(numbers["axes"]["k"][0]["seconds"]) == {"lora", "gating", "darts"}
    assert numbers["gating_over_lora"] == numbers["axes"]["k"][1]["gating_over_lora"]
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("benchmark", "arguments", "said"),
    [
        ("growth", ("--k", "[]"), "--k: [] is not allowed; allowed: a list of one or more"),
        ("growth", ("--layers", "[6,0]"), "--layers: 0 is not allowed; allowed: 1 or more"),
        ("growth", ("--length", "[]"), "--length: [] is not allowed; allowed: a list of one or more"),
        ("growth", ("--base_layers", "0"), "--base_layers: 0 is not allowed; allowed: 1 or more"),
        ("growth", ("--hidden", "200"), "--hidden: 200 is not allowed; allowed: a multiple of 64"),
        ("total", ("--seeds", "[]"), "--seeds: [] is not allowed; allowed: a list of one or more"),
        ("total", ("--seeds", "[-1]"), "--seeds: -1 is not allowed; allowed: 0 or more"),
        ("total", ("--tasks", "[]"), "--tasks: [] is not allowed; allowed: a list of one or more"),
    ],
)
def test_settings_that_measure_nothing_are_refused(
    benchmark: str, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, measure = {
        "growth": (growth.GrowthSettings, growth.measure), "total": (total.TotalSettings, total.measure)
    }[benchmark]  # fmt: skip
    assert main(settings, measure, list(arguments)) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_runs_of_an_earlier_measurement_are_not_replaced(tmp_path: Path) -> None:
    earlier = tmp_path / "sst2_adalora_1"
    earlier.mkdir()
    settings = total.TotalSettings(tasks=["sst2"], seeds=[0, 1], runs_folder=str(tmp_path))
    with pytest.raises(UserError, match=rf"^--runs_folder: {earlier} is there already; allowed: a folder without"):
        total.measure(settings)


def test_data_is_tokenised_once(model_folder: ModelFolder, glue: Path) -> None:
    settings = data.DataSettings(path=str(glue), model=str(model_folder("bert")), batch_size=8, only=True)
    first, second = (data.measure(settings)[0] for _ in range(2))
    assert (first["rows"], first["batches"]) == (40, 5)
    assert (first["from_cache"], second["from_cache"]) == (False, True)


@pytest.mark.slow
def test_data_that_cannot_be_read_is_one_line_of_the_process_that_reads(
    glue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(data.DataSettings, data.measure, ["--path", str(glue), "--model", str(glue / "none")]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: --model.name: cannot load '{glue / 'none'}'")


@pytest.mark.slow
def test_another_process_finds_what_the_first_tokenised(model_folder: ModelFolder, glue: Path) -> None:
    settings = data.DataSettings(path=str(glue), model=str(model_folder("bert")), batch_size=8, rounds=1, device="cpu")
    numbers, _ = data.measure(settings)
    assert numbers["second_run_hit_the_cache"]
    assert not numbers["first_run"]["from_cache"]


@pytest.mark.slow
@pytest.mark.trains
def test_total(model_folder: ModelFolder, glue: Path, tmp_path: Path) -> None:
    place = tmp_path / "total.json"
    overrides = {"model.name": str(model_folder("bert")), "lora.k": 4, "precision": "fp32", "device": "cpu"}
    overrides |= {"search.unroll_steps": 1}  # so few rows make two steps of the search
    argv = ["--json", str(place), "--path", str(glue), "--tasks", "[sst2]", "--seeds", "[0]", "--epochs", "4"]
    argv += ["--learning_rates", '{"adalora": 5e-3}']
    assert main(total.TotalSettings, total.measure, [*argv, "--overrides", json.dumps(overrides)]) == 0
    numbers = json.loads(place.read_text())
    assert [run["method"] for run in numbers["runs"]] == ["lora", "adalora", "autolora"]
    lora, adalora, autolora = numbers["runs"]
    assert lora["steps"]["retrain"] == adalora["steps"]["retrain"] == 12
    assert (autolora["steps"]["search"], autolora["steps"]["retrain"]) == (2, 11)
    assert {run["method"]: run["learning_rate"] for run in numbers["runs"]} == {
        "lora": 1e-3, "adalora": 5e-3, "autolora": 1e-3
    }  # fmt: skip
    assert set(numbers["autolora_seconds_over"]["sst2"]) == {"lora", "adalora"}


RESULT = {
    "metrics": {"accuracy": 0.5}, "learning_rate": 1e-3, "seconds": {"search": None, "retrain": 1.0, "total": 1.0},
    "steps": {"search": None, "retrain": 1}, "mean_rank": None, "lora_parameters": 0,
}  # fmt: skip


@pytest.mark.parametrize(("rows", "batch_size", "steps"), [(32, 16, 6), (32, 8, 12), (None, 8, 15), (9999, 8, 15)])
def test_the_search_gets_its_share_of_the_baselines_rows(
    glue: Path, monkeypatch: pytest.MonkeyPatch, rows: int | None, batch_size: int, steps: int
) -> None:
    """Also when the batch is overridden, and of no more rows than there are: 0.15 of 20 epochs of 32 or 40 rows."""
    settings = total.TotalSettings(
        path=str(glue), tasks=["sst2"], seeds=[0], train_rows=rows, epochs=20,
        overrides={"search.batch_size": batch_size},
    )  # fmt: skip
    searched = []

    def run_stages(request: Request, *_: Any, **__: Any) -> RunFolder:
        folder = RunFolder(Path(request.config.runs_folder) / str(request.config.name))
        searched.append((request.config.method, request.config.search.steps))
        write_json(folder.metrics, RESULT)
        return folder

    monkeypatch.setattr(total, "run_stages", run_stages)
    total.measure(settings)
    assert dict(searched)["autolora"] == steps


def test_the_ratio_at_equal_speed_takes_lora_s_steps_at_the_speed_of_the_retraining(
    glue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRA's own seconds do not enter: the machine was slower during its 10 steps."""
    of_method = {"autolora": ({"search": 3.0, "retrain": 4.0, "total": 7.0}, 8), "lora": ({"total": 99.0}, 10)}

    def run_stages(request: Request, *_: Any, **__: Any) -> RunFolder:
        folder = RunFolder(Path(request.config.runs_folder) / str(request.config.name))
        seconds, steps = of_method.get(request.config.method, ({"total": 1.0}, 1))
        own = {"seconds": {"search": None, "retrain": 1.0} | seconds, "steps": {"search": None, "retrain": steps}}
        write_json(folder.metrics, RESULT | own)
        return folder

    monkeypatch.setattr(total, "run_stages", run_stages)
    numbers, (table,) = total.measure(total.TotalSettings(path=str(glue), tasks=["sst2"], seeds=[0, 1], epochs=20))
    assert numbers["over_lora_at_equal_speed"] == {"sst2": pytest.approx(7.0 / (10 * 4.0 / 8))}
    assert str(table.caption).endswith("1.40")


@pytest.mark.slow
@pytest.mark.trains
def test_answer(model_folder: ModelFolder, tmp_path: Path) -> None:
    place = tmp_path / "answer.json"
    sizes = ["--rows", "40", "--batch_size", "4", "--k", "2", "--steps", "4", "--device", "cpu"]
    argv = ["--json", str(place), "--model", str(model_folder("bert")), *sizes]
    assert main(answer.AnswerSettings, answer.measure_answer, argv) == 0
    numbers = json.loads(place.read_text())
    assert numbers["lora_steps"] == pytest.approx(numbers["seconds"] / numbers["lora_step_seconds"])
    assert numbers["target"] == 500


@pytest.mark.slow
def test_every_start_is_timed_and_compared_with_the_imports(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The commands are right: each says what it is to say. How long they take is not asked here."""
    monkeypatch.setattr(startup, "seconds_of", lambda command, first_line: 2.0 if first_line else 4.0)
    numbers, _ = startup.measure(startup.StartupSettings(model=str(model_folder("bert")), rounds=2))
    assert numbers["ratio_to_imports"] == dict.fromkeys(startup.TARGETS, 1.0) | {"first line": 0.5}
    assert set(numbers["seconds"]) == {startup.BASE, *startup.TARGETS}
    commands = startup.commands_in(tmp_path, str(model_folder("bert")))
    said = {
        "no such file": "no file", "finished run": "already holds a finished run", "no such target": "nosuch",
        "--show": "accuracy 0.9000", "--help": "common keys",
    }  # fmt: skip
    for name, words in said.items():
        done = subprocess.run(commands[name], capture_output=True, text=True, check=False)
        assert words in done.stdout + done.stderr, name
