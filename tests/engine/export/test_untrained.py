"""adapter_untrained/: the base model's function, and the recorded ranks in what is trained from it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig, Stage
from autolora.engine import ranks
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.attach import lora_layers
from tests.helpers.exports import of_mean_rank, scales_of


@pytest.mark.trains
def test_it_has_the_recorded_ranks_and_changes_nothing(chat_search: tuple[RunFolder, Path]) -> None:
    folder, base = chat_search
    plain, ids = AutoModelForCausalLM.from_pretrained(base), torch.arange(12)[None]
    with torch.no_grad():
        expected = plain.eval()(ids).logits
    model = PeftModel.from_pretrained(plain, folder.untrained, is_trainable=True)
    record = ranks.load(folder.ranks)
    assert {name: layer.r["default"] for name, layer in lora_layers(model).items()} == record.kept
    assert scales_of(model) == of_mean_rank(record.kept, 6, 4)
    with torch.no_grad():
        assert torch.equal(model.eval()(ids).logits, expected)
    weights = load_file(folder.untrained / "adapter_model.safetensors")
    assert all((".lora_B." in name) == (not value.any()) for name, value in weights.items())
    settings = json.loads((folder.untrained / "adapter_config.json").read_text())
    assert settings["inference_mode"] is False
    assert not folder.metrics.exists()


@pytest.mark.trains
def test_a_finished_run_may_still_be_asked_for_it(
    finished_run: Callable[..., RunFolder], tiny_config: Callable[..., RunConfig], tmp_path: Path, log_lines: list[str]
) -> None:
    """Its ranks stay as they are; another budget is told to do nothing."""
    folder = RunFolder(tmp_path / "runs" / "tiny")
    shutil.copytree(finished_run("bert").root, folder.root)
    before = {path: path.read_bytes() for path in (folder.ranks, folder.metrics, folder.search_weights)}
    asked = Request(tiny_config("--export.untrained", "true", "--answer.budget", "0.5"), "search", False, "x")
    run_stages(asked, StopRequest(), draw=False)
    assert folder.untrained_card.exists()
    assert {path: path.read_bytes() for path in before} == before
    assert any("the ranks were found with --answer.budget 'auto'" in line for line in log_lines)
    weights = load_file(folder.untrained / "adapter_model.safetensors")
    assert {"classifier" in name for name in weights} == {True, False}, "the new head comes along"


@pytest.mark.trains
@pytest.mark.parametrize("stage", ["search", "retrain"])
def test_both_stages_write_it_anew_at_edited_ranks(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, stage: Stage
) -> None:
    """lora_config/ as well, so that `--for` has lines for the edited ranks."""
    config = tiny_config("--search.steps", "2", "--answer.rows", "0", "--export.untrained", "true")
    folder = run_stages(Request(config, "search", False, "x"), StopRequest(), draw=False)
    raw = json.loads(folder.ranks.read_text())
    raw["layers"][0]["rank"], raw["layers"][1]["rank"] = 0, 7
    folder.ranks.write_text(json.dumps(raw))
    shutil.copytree(folder.untrained, tmp_path / "old", copy_function=os.link)  # as an overwrite keeps old results
    before = {path: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    run_stages(Request(config, stage, False, "x"), StopRequest(), draw=False)
    weights = load_file(folder.untrained / "adapter_model.safetensors")
    found = {name: len(value) for name, value in weights.items() if ".lora_A." in name}
    assert found == {f"base_model.model.{n}.lora_A.weight": r for n, r in ranks.load(folder.ranks).kept.items()}
    assert {path: path.read_bytes() for path in before} == before
    assert LoraConfig.from_pretrained(str(folder.lora_config)).rank_pattern == ranks.load(folder.ranks).kept


def test_a_method_that_searches_nothing_says_that_it_writes_none(log_lines: list[str]) -> None:
    from autolora.configs.tell_unread import tell_unread

    request = parse(["--method", "full", "--export.untrained", "true"])
    tell_unread(request.given, request.config, [request.config])
    assert any("--export.untrained" in line and "does nothing with --method full" in line for line in log_lines)
