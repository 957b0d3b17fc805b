"""The baseline of the task head alone: what is trained and kept, and the model that has no head."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, LlamaModel

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.command import run_request
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.stages import run_stages
from tests.helpers.generation_toys import arguments, make_causal, make_tokenizer, save_causal, write_e2e
from tests.helpers.methods import Done
from tests.helpers.recomputed import of_tokens


def finish(config: RunConfig, stop: StopRequest | None = None) -> RunFolder:
    return run_stages(Request(config, "all", False, "x"), stop or StopRequest(), draw=False)


@pytest.mark.trains
def test_the_head_moves_and_the_base_does_not(done: Callable[..., Done]) -> None:
    run = done("head")
    assert not run.folder.adapter.exists()
    model = AutoModelForSequenceClassification.from_pretrained(run.folder.merged)
    torch.testing.assert_close(run.logits_of(model), run.logits)
    base = run.plain_base().bert.state_dict()
    assert all(torch.equal(value, base[name]) for name, value in model.bert.state_dict().items())
    assert AutoTokenizer.from_pretrained(run.folder.merged).pad_token == "<pad>"
    assert model.classifier.bias.any(), "it started at 0"


@pytest.mark.trains
@pytest.mark.parametrize(
    ("kind", "modules", "trained"),
    [
        (
            "bert",
            "null",
            {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"},
        ),
        ("bert", "[]", {"classifier.weight", "classifier.bias"}),
        ("roberta", "null", {f"classifier.{x}.{y}" for x in ("dense", "out_proj") for y in ("weight", "bias")}),
        ("gpt2", "null", {"score.weight"}),
        ("llama", "[norm]", {"score.weight", "model.norm.weight"}),
    ],
)
def test_what_is_trained_is_what_lora_trains_whole(
    tiny_config: Callable[..., RunConfig],
    model_folder: Callable[..., Path],
    kind: str,
    modules: str,
    trained: set[str],
) -> None:
    settings = ("--method", "head", "--lora.modules_to_save", modules, "--retrain.learning_rate", "3e-2")
    folder = finish(tiny_config(*settings, kind=kind))
    after = load_file(folder.merged / "model.safetensors")
    base = AutoModelForSequenceClassification.from_pretrained(model_folder(kind)).state_dict()
    inside = {name for name in after if name.startswith(("bert.", "roberta.", "transformer.", "model."))}
    assert {name for name in inside if not torch.equal(after[name], base[name])} == trained & inside
    count = sum(after[name].numel() for name in trained)
    assert json.loads(folder.metrics.read_text())["trainable_parameters"] == count


@pytest.mark.trains
def test_a_stopped_run_goes_on_to_the_same_weights(
    make_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("--method", "head", "--retrain.max_steps", "6")
    whole = finish(make_config(tmp_path / "whole", "bert", *settings))
    config, stop = make_config(tmp_path / "parts", "bert", *settings), StopRequest()
    original = RetrainTrainer.training_step

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        stop.code = 143 if self.state.global_step == 2 else None
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(RetrainTrainer, "training_step", training_step)
        with pytest.raises(Interrupted):
            finish(config, stop)
    folder = finish(config)
    found, expected = (load_file(x.merged / "model.safetensors") for x in (folder, whole))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    first, second = (json.loads(x.metrics.read_text()) for x in (folder, whole))
    assert (first["metrics"], first["loss"]) == (second["metrics"], second["loss"])


@pytest.fixture(scope="module")
def argv(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """argv(runs): the command line of the head of a tiny causal model."""
    folder = tmp_path_factory.mktemp("generation")
    data, model = write_e2e(folder / "data"), save_causal(folder / "gpt2", "gpt2")
    return lambda runs, *more: [*arguments(model, data, runs, "[c_attn]"), "--method", "head", *more]


@pytest.mark.trains
def test_a_language_model_is_evaluated_as_it_is(
    argv: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a training")

    monkeypatch.setattr(RetrainTrainer, "train", fail)
    request = parse(argv(tmp_path, "--retrain.learning_rates", "[1e-3,1e-2]"))
    run_request(request, StopRequest())
    folder = RunFolder(tmp_path / "tiny")
    result = json.loads(folder.metrics.read_text())
    assert (result["trainable_parameters"], result["lora_parameters"], result["seconds"]["total"]) == (0, 0, 0)
    assert (result["steps"]["retrain"], result["learning_rate"], result["learning_rates_tried"]) == (0, None, [])
    assert list(result["metrics"]) == ["bleu", "nist", "perplexity", "token_accuracy"]
    (rows,) = Context(request.config, StopRequest()).data.evaluation.values()
    accuracy, loss = of_tokens(AutoModelForCausalLM.from_pretrained(request.config.model.name), rows)
    assert result["metrics"]["token_accuracy"] == accuracy
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert len(folder.predictions.read_text().splitlines()) == 4
    for path in (folder.adapter, folder.merged, folder.ranks, folder.sweep, folder.retrain):
        assert not path.exists()
    assert "head" in folder.report.read_text()
    assert any("no task head, so that nothing is trained and no model is written" in line for line in log_lines)
    assert any("--retrain.learning_rates" in line and "where nothing is trained" in line for line in log_lines)


@pytest.mark.trains
def test_a_module_of_a_language_model_can_be_trained(argv: Callable[..., list[str]], tmp_path: Path) -> None:
    folder = run_stages(parse(argv(tmp_path, "--lora.modules_to_save", "[ln_f]")), StopRequest(), draw=False)
    assert json.loads(folder.metrics.read_text())["steps"]["retrain"] == 4
    trained = AutoModelForCausalLM.from_pretrained(folder.merged).state_dict()
    base = make_causal("gpt2", trained["lm_head.weight"].shape[0]).state_dict()
    moved = {name for name, value in trained.items() if not torch.equal(value, base[name])}
    assert moved == {"transformer.ln_f.weight", "transformer.ln_f.bias"}


@pytest.mark.trains
def test_a_language_model_without_its_output_layer_is_refused(argv: Callable[..., list[str]], tmp_path: Path) -> None:
    """Evaluated as it is, it would write random texts."""
    tokenizer = make_tokenizer("<s>")
    causal = make_causal("llama", len(tokenizer))
    body = LlamaModel(causal.config)
    body.save_pretrained(tmp_path / "body")
    tokenizer.save_pretrained(tmp_path / "body")
    with pytest.raises(UserError, match=r"--method: 'head' .* without weights of lm_head, .*\[lm_head\]\" trains"):
        run_stages(parse(argv(tmp_path, "--model.name", str(tmp_path / "body"))), StopRequest())
