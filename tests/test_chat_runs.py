"""Whole runs on conversations and on an own table through a chat template, and the lines that load the adapter."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import chat_template_utils

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.engine import ranks
from autolora.engine.retrain import generate
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models import load
from autolora.problems.tasks.templates import Template
from tests.helpers.chat_toys import (
    CHATML,
    DATED,
    PARTS,
    chat_arguments,
    chat_rows,
    on_the_day,
    run_card,
    save_chat_model,
)
from tests.helpers.generation_toys import arguments, e2e_rows


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture(scope="module")
def argv(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """argv(runs): the command line of a tiny run on conversations."""
    folder = tmp_path_factory.mktemp("chat")
    model, data = save_chat_model(folder / "model"), folder / "messages.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in chat_rows()))
    return lambda runs, template=CHATML: chat_arguments(
        model if template else save_chat_model(folder / "bare", None), data, runs
    )


@pytest.fixture(scope="module")
def finished(argv: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of all stages by shares."""
    runs = tmp_path_factory.mktemp("runs")
    return run_stages(parse([*argv(runs), "--answer.rule", "shares", "--answer.curve_ranks", "[1]"]), StopRequest())


@pytest.mark.trains
def test_loss_perplexity_and_accuracy_are_those_of_all_answer_tokens(finished: RunFolder) -> None:
    """The oracle: plain PEFT, one row at a time, in float64."""
    result, adapter = json.loads(finished.metrics.read_text()), str(finished.adapter)
    settings = json.loads((finished.adapter / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(settings["base_model_name_or_path"], dtype=torch.float64)
    model, tokenizer = PeftModel.from_pretrained(base, adapter).eval().double(), AutoTokenizer.from_pretrained(adapter)
    prompts = {json.dumps(row["prompt"][0]["content"]) for row in lines_of(finished.samples)}
    assert prompts
    held_out = _held_out(finished, parse(["--config", str(finished.config)]).config)
    total, hits, count = 0.0, 0, 0
    for turns in held_out:
        ids, labels = (torch.tensor(part) for part in Template(tokenizer).labelled(turns))
        with torch.no_grad():
            logs = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        known = labels[1:] != -100
        total -= float(logs[known, labels[1:][known]].sum())
        hits += int((logs.argmax(-1)[known] == labels[1:][known]).sum())
        count += int(known.sum())
    assert result["loss"] == pytest.approx(total / count, rel=1e-5)
    assert result["metrics"] == pytest.approx(
        {"perplexity": math.exp(total / count), "token_accuracy": hits / count}, rel=1e-4
    )
    assert result["task"] == "mine"


def _held_out(folder: RunFolder, config: Any) -> list[Any]:
    from autolora.problems.tasks import make_task

    task = make_task(config)
    (rows,) = task.rows().evaluation.values()
    return [json.loads(row)["messages"] for row in rows["chat"]]


@pytest.mark.trains
def test_samples_stand_beside_their_references_and_in_the_report(finished: RunFolder) -> None:
    samples, written = lines_of(finished.samples), lines_of(finished.written)
    assert len(samples) == len(written) == 2, "all that are held out"
    for sample, row in zip(samples, written, strict=True):
        assert list(sample) == ["prompt", "answer", "reference"]
        assert sample["prompt"] == row["messages"]
        assert sample["answer"] == row["text"]
        assert row["prompt"].endswith("<|im_start|>assistant\n")
    known = {row["messages"][1]["content"] for row in chat_rows()}
    assert {sample["reference"] for sample in samples} <= known
    assert "What the model answers" in finished.report.read_text()
    assert samples[0]["reference"] in finished.report.read_text()


@pytest.mark.trains
def test_the_answer_stage_counts_tokens_of_answers(finished: RunFolder) -> None:
    record = ranks.load(finished.ranks)
    assert record.evidence is not None
    assert [point.at for point in record.evidence.rank_curve] == [1, 4]
    assert record.evidence.without == "base model"
    assert 0 < record.evidence.loss < 10


@pytest.mark.trains
def test_the_lines_of_the_card_load_the_model_that_wrote_the_answers(finished: RunFolder) -> None:
    row, model = lines_of(finished.written)[0], run_card(finished.adapter)["model"]
    answer = row["token_ids"]
    logits = model(torch.tensor([[*row["prompt_ids"], *answer]])).logits[0]
    assert logits.argmax(-1)[-len(answer) - 1 : -1].tolist() == answer, "they were written greedily"
    text = (finished.adapter / "README.md").read_text()
    assert "The form of the prompt: the chat template of the model" in text


@pytest.mark.trains
def test_the_end_of_a_turn_stands_where_servers_read_it(finished: RunFolder) -> None:
    """The base ends at its end of text alone, so that a server went on after the answer."""
    ends = Template(AutoTokenizer.from_pretrained(finished.adapter)).ends
    assert len(ends) == 2
    for folder in (finished.adapter, finished.padded):
        assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == ends


@pytest.mark.trains
@pytest.mark.parametrize("prompt", ["chat", "plain"])
def test_an_own_table_of_pairs_is_asked_in_both_forms(
    argv: Callable[..., list[str]], tmp_path: Path, prompt: str
) -> None:
    data = tmp_path / "pairs.jsonl"
    rows = [{"source": row["meaning_representation"], "target": row["human_reference"]} for row in e2e_rows()]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = Path(argv(tmp_path)[argv(tmp_path).index("--model.name") + 1])
    more = ["--task.name", "pairs", "--task.metrics", "[bleu]", "--method", "lora", "--task.prompt", prompt]
    folder = run_stages(
        parse([*arguments(model, data, tmp_path, "[q_proj,v_proj]"), *more]), StopRequest(), draw=False
    )
    row = lines_of(folder.written)[0]
    assert ("messages" in row) == (prompt == "chat")
    assert " ".join(row["text"].split()) == folder.predictions.read_text().split("\n")[0]


@pytest.mark.trains
def test_a_template_with_a_date_has_always_the_same_one(
    argv: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template also reads contents as lists of parts."""
    model = save_chat_model(tmp_path / "model", DATED.replace(CHATML, PARTS))
    monkeypatch.setattr(chat_template_utils, "datetime", on_the_day(1))
    folder = run_stages(
        parse([*argv(tmp_path), "--method", "lora", "--model.name", str(model)]), StopRequest(), draw=False
    )
    row = lines_of(folder.written)[0]
    assert row["prompt"].startswith("Today: 26 Jul 2024\n")
    assert row["messages"][0]["content"] in row["prompt"]
    assert "its date is always 26 Jul 2024" in (folder.adapter / "README.md").read_text()


@pytest.mark.trains
def test_a_model_without_a_template_is_refused_before_its_weights_are_loaded(
    argv: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "AutoConfig", None)
    with pytest.raises(UserError, match=r"^--task\.chat_template: null is not allowed, as .* has no chat template"):
        run_stages(parse(argv(tmp_path, None)), StopRequest())
    assert not (tmp_path / "tiny").exists()


@pytest.mark.slow
def test_texts_need_no_template(argv: Callable[..., list[str]], tmp_path: Path) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": row["human_reference"]}) + "\n" for row in e2e_rows()))
    more = ["--task.path", str(data), "--method", "lora", "--task.label_smoothing", "null"]
    folder = run_stages(parse([*argv(tmp_path, None), *more]), StopRequest(), draw=False)
    assert not folder.samples.exists()
    assert "none, the texts themselves are learned" in (folder.adapter / "README.md").read_text()
    assert list(json.loads(folder.metrics.read_text())["metrics"]) == ["perplexity", "token_accuracy"]


@pytest.mark.slow
def test_a_finished_training_is_not_repeated_when_the_sampling_is_killed(
    argv: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = parse([*argv(tmp_path), "--method", "lora"])

    def killed(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generate, "decode", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stages(request, StopRequest())
    monkeypatch.setattr(RetrainTrainer, "training_step", killed)
    fewer = parse([*argv(tmp_path), "--method", "lora", "--task.samples", "1"])
    folder = run_stages(fewer, StopRequest(), draw=False)
    assert len(lines_of(folder.samples)) == 1, "samples change nothing of what was trained"


@pytest.mark.slow
def test_the_base_is_evaluated_where_nothing_is_trained(argv: Callable[..., list[str]], tmp_path: Path) -> None:
    folder = run_stages(parse([*argv(tmp_path), "--method", "head"]), StopRequest(), draw=False)
    assert json.loads(folder.metrics.read_text())["trainable_parameters"] == 0
    assert len(lines_of(folder.samples)) == 2
    assert not folder.adapter.exists()
