"""Whole runs of generation on tiny causal models: search, retraining, decoding, scores, and resuming after a kill."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from autolora.configs.files import load_config
from autolora.configs.parser import parse
from autolora.engine import ranks
from autolora.engine.retrain import generate
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.scoring import score
from tests.helpers.generation_toys import arguments, save_causal, write_e2e
from tests.helpers.recomputed import of_tokens

TARGETS = {"llama": "[q_proj,v_proj]", "gpt2": "[c_attn]"}


@pytest.fixture(scope="module")
def argv(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """argv("llama", runs): the command line of a tiny run, at a rate so high that Llama predicts some tokens right."""
    folder = tmp_path_factory.mktemp("generation")
    data = write_e2e(folder / "data")
    models = {kind: save_causal(folder / kind, kind) for kind in TARGETS}
    return lambda kind, runs: [*arguments(models[kind], data, runs, TARGETS[kind]), "--retrain.learning_rate", "0.1"]


@pytest.fixture(scope="module")
def finished(argv: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunFolder]:
    """finished("llama"): a run of all stages, made once."""
    made: dict[str, RunFolder] = {}

    def make(kind: str) -> RunFolder:
        if kind not in made:
            made[kind] = run_stages(parse(argv(kind, tmp_path_factory.mktemp(kind))), StopRequest())
        return made[kind]

    return make


def plain_peft(folder: RunFolder) -> Any:
    """The model that the run wrote, as the README loads it."""
    adapter = str(folder.adapter)
    base = AutoModelForCausalLM.from_pretrained(PeftConfig.from_pretrained(adapter).base_model_name_or_path)
    return PeftModel.from_pretrained(base, adapter).eval()


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_gain_is_counted_from_the_untouched_base_a_token(finished: Callable[[str], RunFolder], kind: str) -> None:
    record = ranks.load(finished(kind).ranks)
    evidence = record.evidence
    assert evidence is not None
    assert evidence.without == "base model"
    # Nothing else is trained: without LoRA this is the base, but for the temperature.
    assert evidence.gain <= evidence.fall + 1e-3
    assert evidence.share_total + evidence.head_share == pytest.approx(evidence.fall, rel=0.05, abs=1e-4)
    assert 0 < evidence.loss < 10  # nats a token, not a row


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_run_ends_with_texts_that_score_reads_to_the_same_values(
    finished: Callable[[str], RunFolder], kind: str
) -> None:
    folder = finished(kind)
    result = json.loads(folder.metrics.read_text())
    assert list(result["metrics"]) == ["bleu", "nist", "perplexity", "token_accuracy"]
    assert result["metrics"]["perplexity"] == pytest.approx(math.exp(result["loss"]))
    (rows,) = Context(load_config(folder.config), StopRequest()).data.evaluation.values()
    accuracy, loss = of_tokens(plain_peft(folder), rows)
    assert result["metrics"]["token_accuracy"] == accuracy
    assert accuracy > 0 or kind == "gpt2", "of the tokens some are right"
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert result["split"] == "test"
    found = score("e2e", str(folder.predictions), str(folder.references), metrics=["bleu", "nist"])
    assert {name.lower(): value for name, value in found.items()}.items() <= result["metrics"].items()
    assert len(folder.predictions.read_text().splitlines()) == 4
    assert folder.report.exists()


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_plain_peft_writes_the_runs_texts(finished: Callable[[str], RunFolder], kind: str) -> None:
    model, tokenizer = plain_peft(finished(kind)), AutoTokenizer.from_pretrained(finished(kind).adapter)
    inputs = tokenizer(
        "name : The Mill | Type : pub | area : riverside", return_tensors="pt", add_special_tokens=False
    )
    ids = torch.cat([inputs["input_ids"], torch.tensor([[tokenizer.bos_token_id]])], dim=1)
    found = model.generate(input_ids=ids, num_beams=2, max_new_tokens=8, length_penalty=0.8, do_sample=False,
                           pad_token_id=0)  # fmt: skip
    text = " ".join(tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True).split())
    assert text == finished(kind).predictions.read_text().splitlines()[0]


@pytest.mark.slow
def test_a_finished_training_is_not_repeated_when_the_decoding_is_killed(
    argv: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished: Callable[[str], RunFolder],
) -> None:
    request = parse(argv("llama", tmp_path))
    expected = finished("llama").predictions.read_text()  # trained now, if no test before has

    def killed(*arguments: Any) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generate, "decode", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stages(request, StopRequest())

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(RetrainTrainer, "training_step", refuse)
    folder = run_stages(request, StopRequest(), draw=False)
    assert folder.predictions.read_text() == expected
    assert json.loads(folder.metrics.read_text())["steps"]["retrain"] == 4


@pytest.mark.slow
def test_a_rate_is_chosen_by_the_loss_on_d_val_without_decoding(
    argv: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = generate.decode
    monkeypatch.setattr(generate, "decode", lambda *a: calls.append(1) or original(*a))
    more = ["--method", "lora", "--retrain.learning_rates", "[1e-2,1e-5]", "--task.evaluation_rows", "2"]
    folder = run_stages(parse([*argv("gpt2", tmp_path), *more]), StopRequest(), draw=False)
    assert json.loads(folder.sweep.read_text())["chosen"] == {"learning_rate": 1e-2}
    assert len(calls) == 1
    assert len(folder.predictions.read_text().splitlines()) == 2
