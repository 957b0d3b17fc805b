"""A run: all stages by one command or each alone, its folder's files, and the same command
again."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import LoraConfig

from tests.contract.conftest import Finished, Tiny
from tests.contract.inputs import EXPORTED
from tests.contract.program import refused, succeed
from tests.contract.readers import (
    adapter_weights,
    batch_of,
    everything,
    kept_ranks,
    loaded,
    logits_of,
    outcome,
    predicted_by,
    ranks_in,
    read,
)
from tests.helpers.tiny import MEASURED

FILES = (
    "config.yaml",
    "search/trajectory.parquet",
    "search/metrics.jsonl",
    "ranks.json",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "adapter/README.md",
    "lora_config/adapter_config.json",
    "metrics.json",
    "predictions.csv",
    "report.html",
    "log.txt",
)
NUMBERS = ("step", "train_loss", "val_loss", "implicit_to_direct", "cosine", "seconds")
RESULT = (
    "method",
    "task",
    "metrics",
    "loss",
    "log_loss",
    "lora_parameters",
    "trainable_parameters",
    "seed",
    "seconds",
    "steps",
    "peak_memory_mib",
    "versions",
)


@pytest.mark.parametrize(
    ("kind", "more"), [("bert", ()), ("mixtral", ()), EXPORTED["llama at one scale"]]
)
def test_one_command_leaves_the_files_that_are_promised(
    finished: Finished, kind: str, more: tuple[str, ...]
) -> None:
    folder = finished(*more, kind=kind)
    for name in FILES:
        assert (folder / name).stat().st_size > 0, name
    assert list(folder.glob("figures/*.png"))
    trajectory = pd.read_parquet(folder / "search" / "trajectory.parquet")
    assert {"step", "layer", "component", "alpha", "contribution"} <= set(trajectory.columns)
    assert sorted(trajectory["step"].unique()) == [0, 2, 4, 6]
    logged = read(folder / "search" / "metrics.jsonl")
    assert [line["step"] for line in logged] == [2, 4, 6]
    assert all(set(NUMBERS) <= set(line) for line in logged)
    result = read(folder / "metrics.json")
    assert set(RESULT) <= set(result)
    assert result["steps"] == {"search": 6, "retrain": 4}
    weights = adapter_weights(folder / "adapter")
    assert ranks_in(weights) == kept_ranks(folder)
    assert result["lora_parameters"] == sum(
        value.numel() for name, value in weights.items() if ".lora_" in name
    )
    assert result["trainable_parameters"] == sum(value.numel() for value in weights.values())


def test_the_result_is_that_of_the_adapter_in_plain_peft(finished: Finished) -> None:
    folder = finished()
    result = read(folder / "metrics.json")
    rows = pd.read_csv(folder / "predictions.csv")
    model = loaded(folder / "adapter")
    assert predicted_by(model, folder)
    logits = logits_of(model, batch_of(folder / "adapter", *rows["sentence"]))
    assert result["metrics"]["accuracy"] == (rows["predicted"] == rows["label"]).mean()
    labels = torch.tensor([model.config.label2id[name] for name in rows["label"]])
    loss = float(torch.nn.functional.cross_entropy(logits, labels))
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    losses = pd.read_parquet(folder / "row_losses.parquet")
    assert result["log_loss"] == pytest.approx(losses["loss"].sum() / losses["weight"].sum())


def test_the_search_alone_stops_at_ranks_and_all_goes_on_from_there(
    tiny: Tiny, folder: Path
) -> None:
    succeed(*tiny("--stage", "search"))
    assert (folder / "ranks.json").exists()
    assert (folder / "lora_config" / "adapter_config.json").exists()
    assert not (folder / "metrics.json").exists()
    assert not (folder / "adapter").exists()
    names = ("ranks.json", "search/metrics.jsonl", "search/trajectory.parquet")
    searched = {name: (folder / name).read_bytes() for name in names}
    succeed(*tiny())
    assert (folder / "metrics.json").exists()
    assert {name: (folder / name).read_bytes() for name in names} == searched, (
        "the search is not made again"
    )


def test_the_retraining_alone_obeys_a_ranks_json_written_by_hand(tiny: Tiny, folder: Path) -> None:
    """A name and a rank for each layer are enough: rank 0, more than k, and a layer that no search
    would name."""
    wanted = {
        "bert.encoder.layer.0.attention.self.query": 0,
        "bert.encoder.layer.0.attention.self.value": 1,
        "bert.encoder.layer.1.output.dense": 7,
    }
    folder.mkdir(parents=True)
    layers = [{"name": name, "rank": rank} for name, rank in wanted.items()]
    (folder / "ranks.json").write_text(json.dumps({"layers": layers}))
    succeed(*tiny("--stage", "retrain"))
    kept = {name: rank for name, rank in wanted.items() if rank}
    assert ranks_in(adapter_weights(folder / "adapter")) == kept
    assert predicted_by(loaded(folder / "adapter"), folder)
    result = read(folder / "metrics.json")
    assert result["mean_rank"] == pytest.approx(8 / 3)
    assert result["steps"]["retrain"] == 4
    config = LoraConfig.from_pretrained(folder / "lora_config")
    found = {name: config.rank_pattern.get(name, config.r) for name in config.target_modules}
    assert found == kept


def test_the_report_alone_draws_the_page_again_and_touches_no_result(
    tiny: Tiny, done: Path
) -> None:
    (done / "report.html").unlink()
    before = outcome(done)
    succeed(*tiny("--stage", "report"))
    assert outcome(done) == {**before, "report.html": None}


def test_the_config_of_the_folder_repeats_the_run(finished: Finished, tmp_path: Path) -> None:
    first = finished()
    succeed("--config", first / "config.yaml", "--runs_folder", tmp_path)
    one = outcome(first)
    other = outcome(tmp_path / "tiny")
    for name in ("ranks.json", "search/trajectory.parquet", "adapter/adapter_model.safetensors"):
        assert other[name] == one[name], name
    assert other["metrics.json"]["metrics"] == one["metrics.json"]["metrics"]


def test_the_same_command_on_a_finished_run_changes_nothing(
    tiny: Tiny, done: Path, folder: Path
) -> None:
    before = everything(folder)
    assert "accuracy" in succeed(*tiny(*MEASURED))
    shown = succeed("--show", folder)
    assert all(
        word in shown for word in ("accuracy", "ranks (threshold", str(folder / "report.html"))
    )
    assert everything(folder) == before
    assert str(folder.parent.parent) in refused("--show", folder.parent.parent)


def test_a_run_is_its_folder_wherever_it_lies(
    finished: Finished, tiny: Tiny, tmp_path: Path
) -> None:
    """A copied run resumes, and shows itself, where it lies now; its config.yaml names no place."""
    shutil.copytree(finished(), moved := tmp_path / "elsewhere" / "copied")
    settings = read(moved / "config.yaml")
    assert not {"name", "runs_folder"} & settings.keys()
    (moved / "report.html").unlink()
    (moved / "metrics.json").unlink()
    succeed("--config", moved / "config.yaml")
    assert read(moved / "metrics.json")["metrics"] == read(finished() / "metrics.json")["metrics"]
    assert [path.name for path in moved.parent.iterdir()] == ["copied"]
