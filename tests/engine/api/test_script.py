"""`learn_ranks`: the ranks of the command line, from rows, a loss and a validation set of one's own."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BertForSequenceClassification

from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.api import AnswerConfig, SearchConfig, UserError
from autolora.engine.export.trainers import lines_for
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from tests.helpers.api import SHORT, class_rows, classifier, learn, padded, settings
from tests.helpers.chat_toys import chat_arguments, chat_rows, save_chat_model
from tests.helpers.tiny import MEASURED
from tests.helpers.untouched import left_as_it_was

pytestmark = pytest.mark.trains

LLAMA = ["q_proj", "v_proj"]


def parts_of(folder: RunFolder) -> dict[str, Any]:
    """ranks.json without the names of the base model."""
    record: dict[str, Any] = json.loads(folder.ranks.read_text())
    return {key: value for key, value in record.items() if key != "base_model"}


def of_command_line(config: RunConfig) -> RunFolder:
    return run_stages(Request(config, "search", False, "tiny.yaml"), StopRequest(), draw=False)


@pytest.mark.parametrize("rule", ["threshold", "shares"])
def test_a_classifier_gets_the_ranks_of_the_command_line(
    model_folder: Callable[..., Path], tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context],
    tmp_path: Path, rule: str,
) -> None:  # fmt: skip
    """With the head in the folder, as the command line would draw one of its own."""
    classifier(model_folder("bert")).save_pretrained(tmp_path / "model")
    given = ("--model.name", str(tmp_path / "model"), "--answer.rule", rule, "--seed", "3")
    config = tiny_config(*MEASURED, *given, "--task.train_rows", "100", "--search.steps", "15")
    for name in model_folder("bert").glob("*token*"):
        (tmp_path / "model" / name.name).write_bytes(name.read_bytes())
    folder, data = of_command_line(config), run_of(config).data
    model = BertForSequenceClassification.from_pretrained(tmp_path / "model")
    learned = learn(
        model,
        data.train,
        settings(),
        collate=data.collate,
        seed=3,
        search=config.search,
        answer=config.answer,
        hypergradient=config.hypergradient,
    )
    learned.save(tmp_path / "learned")
    saved = RunFolder(tmp_path / "learned")
    assert parts_of(saved) == parts_of(folder)
    assert (saved.lora_config / "adapter_config.json").read_text() == (
        folder.lora_config / "adapter_config.json"
    ).read_text()
    assert learned.shares is not None
    assert learned.curve is not None
    assert [point.at for point in learned.curve] == [1, 2, 4]


@pytest.mark.slow
def test_a_language_model_gets_the_ranks_of_the_command_line(tmp_path: Path, run_of: Callable[..., Context]) -> None:
    base = save_chat_model(tmp_path / "model")
    data = tmp_path / "messages.jsonl"
    rows = chat_rows()
    # A script's rows have no sources, so each counts by itself; here too, if no two have the same prompt.
    for number, row in enumerate(rows):
        row["messages"][0]["content"] += f" ({number})"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ["--task.split_by", "row", "--answer.rule", "shares", "--search.steps", "30"]
    config = parse([*chat_arguments(base, data, tmp_path / "runs"), *more]).config
    folder, data = of_command_line(config), run_of(config).data
    model = AutoModelForCausalLM.from_pretrained(base)
    lora = LoraConfig(task_type="CAUSAL_LM", r=config.lora.k, lora_alpha=config.lora.lora_alpha, target_modules=LLAMA)
    with left_as_it_was(model):
        learned = learn(model, data.train, lora, collate=data.collate, search=config.search, answer=config.answer,
                        hypergradient=config.hypergradient)  # fmt: skip
    learned.save(tmp_path / "learned")
    assert parts_of(RunFolder(tmp_path / "learned")) == parts_of(folder)
    assert "SFTTrainer" in lines_for("trl", RunFolder(tmp_path / "learned"))


@pytest.mark.parametrize(
    ("rows", "validation", "steps"), [(32, 0, 100), (2400, 0, 225), (1200, 800, 225), (40_000, 0, 2000)]
)
def test_without_a_search_of_its_own_a_script_gets_three_passes_within_limits(
    model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, rows: int, validation: int, steps: int
) -> None:
    """Passes over D_tr: all rows if there are validation rows, else half of them. 16 rows a step."""
    found = []
    monkeypatch.setattr("autolora.engine.api.learning.find_ranks", lambda bench: found.append(bench.config))
    monkeypatch.setattr("autolora.engine.api.learning.LoraConfig.from_pretrained", lambda *_: None)
    monkeypatch.setattr("autolora.engine.api.learning.ranks.load", lambda *_: None)
    given = class_rows(validation) if validation else None
    learn(classifier(model_folder("bert")), class_rows(rows), search=None, validation_dataset=given)
    assert (found[0].search.steps, found[0].search.unroll_steps) == (steps, 4)
    assert found[0].hypergradient.type == "first_order"


@pytest.mark.parametrize(("task_type", "by_text"), [("SEQ_CLS", True), ("TOKEN_CLS", True), (None, False)])
def test_rows_of_one_text_stay_in_one_half_if_a_text_is_what_is_labelled(
    model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, task_type: str | None, by_text: bool
) -> None:
    found: list[Any] = []
    monkeypatch.setattr("autolora.engine.api.learning.find_ranks", lambda bench: found.append(bench.halves()))
    monkeypatch.setattr("autolora.engine.api.learning.LoraConfig.from_pretrained", lambda *_: None)
    monkeypatch.setattr("autolora.engine.api.learning.ranks.load", lambda *_: None)
    rows = [row for row in class_rows(20) for _ in range(2)]
    given = settings(task_type=task_type)
    learn(classifier(model_folder("bert")), rows, given, answer=AnswerConfig(rule="threshold"))
    d_tr, d_val = ([rows[number]["input_ids"] for number in half] for half in found[0])
    assert len(d_tr) == len(d_val) == 20
    assert any(ids in d_tr for ids in d_val) is not by_text


def test_progress_is_shown(
    model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    monkeypatch.setattr("autolora.engine.terminal.ticker.SECONDS_BETWEEN_LINES", -1)
    learn(classifier(model_folder("bert")))
    assert any(line.startswith("INFO search 4/6  ") and "  L_tr " in line for line in log_lines)
    assert any(line.startswith("INFO answer: ") and "16 rows" in line for line in log_lines)


def test_the_validation_rows_are_those_that_are_given(model_folder: Callable[..., Path], log_lines: list[str]) -> None:
    tried: list[int] = []

    def collate(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        tried.extend(example["number"] for example in examples)
        return padded(examples)

    rows = [{**row, "number": i} for i, row in enumerate(class_rows(24))]
    learned = learn(classifier(model_folder("bert")), rows[:12], collate=collate, validation_dataset=rows[12:])
    assert "INFO search: 4 layers x k = 4, D_tr 12 rows, D_val 12 rows, cpu, fp32" in log_lines
    assert set(tried) == set(range(24))
    assert learned.record.evidence is not None
    assert learned.record.evidence.rows == 12


def test_batches_that_are_added_up_weigh_their_labels(model_folder: Callable[..., Path]) -> None:
    """Half the batch twice is the step of the whole batch, as in the command line."""
    model = classifier(model_folder("bert", dropout=0.0))
    whole = learn(model)
    half = SearchConfig(**{**vars(SHORT), "batch_size": 4, "gradient_accumulation": 2})
    parts = learn(model, search=half)
    for one, other in zip(whole.record.layers, parts.record.layers, strict=True):
        np.testing.assert_allclose(other.alpha, one.alpha, atol=1e-4)


def squares(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """A loss that no kind of labels has."""
    return (model(batch["x"]) - batch["y"]).square().mean()


def pairs() -> list[tuple[Tensor, Tensor]]:
    """Rows of no kind that a task type names."""
    torch.manual_seed(0)
    return [(torch.randn(6), torch.randn(2)) for _ in range(32)]


def stacked(examples: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    return {"x": torch.stack([x for x, _ in examples]), "y": torch.stack([y for _, y in examples])}


class Net(nn.Module):
    """A plain module; its output is `output_of` what its last layer returns."""

    def __init__(self, output_of: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.last, self.output_of = nn.Linear(6, 8), nn.Linear(8, 2), output_of

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.output_of(self.last(self.first(x).relu()))


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (Net(lambda out: out), r"Net returns Tensor, which has no \.loss"),
        (Net(lambda out: {"loss": out.mean()}), r"Net returns dict, which has no \.loss"),
        (Net(lambda out: SimpleNamespace(loss=None)), r"the model computes none from these batches"),
        (nn.Sequential(nn.Linear(6, 2)), r"Sequential does not take batches of x, y \(.* 'input'\)"),
    ],
)
def test_a_model_without_a_loss_is_one_line_before_the_search(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, line: str
) -> None:
    """The search had ended in an AttributeError, far inside Betty."""
    monkeypatch.setattr("autolora.engine.api.learning.find_ranks", lambda bench: pytest.fail("the search began"))
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    with left_as_it_was(model), pytest.raises(UserError, match=rf"^loss: {line}; give .*loss") as caught:
        learn(model, pairs(), LoraConfig(r=2, target_modules=layers), collate=stacked)
    assert "\n" not in str(caught.value)


def test_a_model_in_bf16_whose_output_has_a_loss_takes_rows_in_fp32() -> None:
    model = Net(lambda out: SimpleNamespace(loss=out.float().square().mean())).to(torch.bfloat16)
    learned = learn(
        model, pairs(), LoraConfig(r=2, target_modules=["first"]), collate=stacked, precision="bf16"
    )  # fmt: skip
    assert set(learned.ranks) == {"first"}


def test_a_module_of_ones_own_with_a_loss_of_ones_own(log_lines: list[str]) -> None:
    rows = pairs()
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    config = LoraConfig(r=2, target_modules=["0", "2"])
    with left_as_it_was(model):
        learned = learn(model, rows, config, collate=stacked, loss=squares)
    assert set(learned.ranks) == {"0", "2"}
    assert learned.record.rule == "threshold"
    assert learned.shares is None
    assert learned.curve is None
    assert any(line.startswith("WARNING answer: ") and "this needs the model's own loss" in line for line in log_lines)
    by_size = learn(model, rows, config, collate=stacked, loss=squares, answer=AnswerConfig(rule="size", budget=1.0))
    assert by_size.record.rule == "size"
    with pytest.raises(UserError, match=r"^answer\.rule: shares is measured by the log loss of every row"):
        learn(model, rows, config, collate=stacked, loss=squares, answer=AnswerConfig(rule="shares"))
