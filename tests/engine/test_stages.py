"""The whole job on tiny random models of four families."""

import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig, Stage
from autolora.engine import work
from autolora.engine.answer import find
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.stages import run_stages
from autolora.engine.tracking import Tracker, login
from tests.helpers.recomputed import of_sample


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_all_stages_write_the_run_folder(finished_run: Callable[..., RunFolder], kind: str) -> None:
    folder = finished_run(kind)
    for path in (folder.config, folder.trajectory, folder.search_metrics, folder.ranks, folder.report):
        assert path.stat().st_size > 0
    assert (folder.adapter / "adapter_model.safetensors").exists()
    result = json.loads(folder.metrics.read_text())
    assert result["steps"] == {"search": 6, "retrain": 4}
    base = PeftConfig.from_pretrained(str(folder.adapter)).base_model_name_or_path
    settings, tokenizer = AutoConfig.from_pretrained(folder.adapter), AutoTokenizer.from_pretrained(folder.adapter)
    model = AutoModelForSequenceClassification.from_pretrained(base, config=settings)
    accuracy, loss = of_sample(PeftModel.from_pretrained(model, folder.adapter), tokenizer)
    assert result["metrics"]["accuracy"] == accuracy
    assert result["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_decoder_as_the_hub_has_it_knows_no_padding(
    tiny_config: Callable[..., RunConfig], model_folder: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    base = shutil.copytree(model_folder(kind), tmp_path / "base")
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps({k: v for k, v in settings.items() if not k.startswith("pad_token")}))
    assert AutoTokenizer.from_pretrained(base).pad_token is None
    config = tiny_config("--model.name", str(base), kind=kind)
    folder = run_stages(Request(config, "all", False, "tiny.yaml"), StopRequest(), draw=False)
    # As the README loads it: the adapter's config knows the padding, too.
    settings, tokenizer = AutoConfig.from_pretrained(folder.adapter), AutoTokenizer.from_pretrained(folder.adapter)
    model = AutoModelForSequenceClassification.from_pretrained(base, config=settings)
    batch = tokenizer(["the film is dull .", "dull ."], padding=True, return_tensors="pt")
    assert PeftModel.from_pretrained(model, folder.adapter)(**batch).logits.shape == (2, 2)


@pytest.mark.trains
def test_the_searched_model_is_gone_when_the_retraining_begins(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs in cycles; beside a second model it may not fit."""
    kept: list[weakref.ref[Any]] = []
    search, retrain = find.search, work.retrain

    def watched(run: Context, tracker: Tracker) -> None:
        kept.append(weakref.ref(search(run, tracker).lora.module))

    def checked(run: Context, tracker: Tracker) -> None:
        assert [reference() for reference in kept] == [None]
        retrain(run, tracker)

    monkeypatch.setattr(find, "search", watched)
    monkeypatch.setattr(work, "retrain", checked)
    request = Request(tiny_config(), "all", False, "tiny.yaml")
    assert run_stages(request, StopRequest(), draw=False).metrics.exists()


@pytest.mark.trains
def test_stage_search_stops_at_ranks_and_all_goes_on_from_there(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--search.steps", "4")
    folder = run_stages(Request(config, "search", False, "tiny.yaml"), StopRequest())
    assert folder.ranks.exists()
    assert folder.report.exists()
    assert not folder.metrics.exists()
    assert not folder.adapter.exists()
    searched = {path: path.read_bytes() for path in (folder.ranks, folder.search_weights, folder.search_metrics)}
    run_stages(Request(config, "all", False, "tiny.yaml"), StopRequest(), draw=False)
    assert folder.metrics.exists()
    assert {path: path.read_bytes() for path in searched} == searched, "the search is not done again"


@pytest.mark.trains
def test_stage_retrain_obeys_edited_ranks(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--search.steps", "2")
    folder = run_stages(Request(config, "search", False, "tiny.yaml"), StopRequest(), draw=False)
    record = json.loads(folder.ranks.read_text())
    wanted = [0, 1, 2, 7]
    for layer, rank in zip(record["layers"], wanted, strict=True):
        layer["rank"] = rank
    folder.ranks.write_text(json.dumps(record))
    run_stages(Request(config, "retrain", False, "tiny.yaml"), StopRequest(), draw=False)
    weights = load_file(folder.adapter / "adapter_model.safetensors")
    for layer, rank in zip(record["layers"], wanted, strict=True):
        a = weights.get(f"base_model.model.{layer['name']}.lora_A.weight")
        assert (0 if a is None else a.shape[0]) == rank
    result = json.loads(folder.metrics.read_text())
    assert result["mean_rank"] == 2.5
    assert result["lora_parameters"] == 10 * 64
    assert result["steps"] == {"search": 2, "retrain": 4}


@pytest.mark.trains
@pytest.mark.parametrize("init", ["scratch", "search"])
def test_a_retraining_records_the_search_that_was_made(tiny_config: Callable[..., RunConfig], init: str) -> None:
    """config.yaml, metrics.json and the report told of the search that the second command would have made."""
    searched = tiny_config("--search.steps", "4", "--answer.tolerance", "0.07", "--hypergradient.type", "first_order")
    folder = run_stages(Request(searched, "search", False, "tiny.yaml"), StopRequest(), draw=False)
    config = tiny_config("--retrain.init", init)
    stop = StopRequest()
    stop.code = 130
    with pytest.raises(Interrupted):
        run_stages(Request(config, "retrain", False, "tiny.yaml"), stop, draw=False)
    run_stages(Request(config, "retrain", False, "tiny.yaml"), StopRequest(), draw=False)
    settings = json.loads(folder.metrics.read_text())["settings"]
    made = {"search.steps": 4, "answer.tolerance": 0.07, "hypergradient.type": "first_order"}
    assert {key: settings[key] for key in made} == made
    kept = parse(["--config", str(folder.config)]).config
    assert (kept.search, kept.answer, kept.hypergradient) == (searched.search, searched.answer, searched.hypergradient)
    assert kept.retrain == config.retrain


@pytest.mark.trains
def test_overwrite_retrain_trains_again_from_the_same_ranks(
    finished_run: Callable[..., RunFolder], tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    shutil.copytree(finished_run("bert").root, tmp_path / "runs" / "tiny")
    config = tiny_config("--retrain.max_steps", "2")
    before = RunFolder(tmp_path / "runs" / "tiny").ranks.read_bytes()
    folder = run_stages(Request(config, "retrain", True, "tiny.yaml"), StopRequest(), draw=False)
    assert folder.ranks.read_bytes() == before
    assert json.loads(folder.metrics.read_text())["steps"] == {"search": 6, "retrain": 2}


@pytest.mark.trains
@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        ("all", ("--tracking.wandb", "online"), r"^--tracking\.wandb: 'online' needs an API key"),
        ("retrain", ("--retrain.init", "search", "--lora.lora_alpha", "1"), r"^--lora\.lora_alpha: .* were searched"),
        ("retrain", ("--method", "lora"), r"^--method: .* another method wrote; .*--stage all --overwrite to replace"),
    ],
)
def test_what_an_overwrite_cannot_replace_is_refused_before_it_clears(
    finished_run: Callable[..., RunFolder],
    tiny_config: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: Stage,
    change: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(login, "has_key", lambda: False)
    root = tmp_path / "runs" / "tiny"
    shutil.copytree(finished_run("bert").root, root)
    before = sorted(root.rglob("*"))
    with pytest.raises(UserError, match=message):
        run_stages(Request(tiny_config(*change), stage, True, "tiny.yaml"), StopRequest())
    assert sorted(root.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.trains
def test_the_config_of_the_folder_repeats_the_run(finished_run: Callable[..., RunFolder], tmp_path: Path) -> None:
    first = finished_run("bert")
    arguments = ["--config", str(first.config), "--runs_folder", str(tmp_path)]
    second = run_stages(parse(arguments), StopRequest(), draw=False)
    name = "adapter_model.safetensors"
    assert second.ranks.read_text() == first.ranks.read_text()
    assert (second.adapter / name).read_bytes() == (first.adapter / name).read_bytes()
    results = [json.loads(folder.metrics.read_text())["metrics"] for folder in (first, second)]
    assert results[0] == results[1]
