"""adapter/README.md: facts, ranks and servers; its lines are run as they stand, also far from where it was made."""

import ast
import dataclasses
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.engine.export.loading import loading_lines
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.run.folder import RunFolder
from autolora.problems.tasks import make_task
from tests.helpers.cards import CHAT, RECORD, card_of
from tests.helpers.chat_toys import chat_tokenizer, run_card
from tests.helpers.exports import Exported, make_export

E2E = ("--task.type", "generation", "--task.name", "e2e", "--task.metrics", "[bleu]")
LONG = {"messages": [], "prompt": "x" * 3000, "prompt_ids": [1] * 90, "text": "a", "token_ids": [1]}
CUT = {"source": "s", "prompt": "cut", "prompt_ids": [1] * 128, "text": "a", "token_ids": [1]}
GOOD = {"source": "it's", "prompt": "a\n```\nb", "prompt_ids": [1] * 5, "text": "a", "token_ids": [1]}


def test_the_first_row_that_is_short_and_whole_is_the_example(tmp_path: Path) -> None:
    text = card_of(tmp_path, E2E, [LONG, CUT, GOOD])
    assert "A PEFT LoRA adapter of `org/base` (packages peft, transformers)." in text
    assert "to line 3 of the run's predictions.jsonl" in text
    assert "````text\na\n```\nb\n````" in text, "a fence longer than any in the text"
    assert 'source = "it\'s"' in text
    assert "num_beams=10, length_penalty=0.8, max_new_tokens=64" in text
    assert "no sequence of 4 tokens could occur twice" in text
    assert "gguf_file" not in text


def test_without_a_row_there_is_no_example_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    RunFolder(tmp_path).written.write_text("")
    assert "of the run's predictions.jsonl" not in card_of(tmp_path, CHAT, [])
    RunFolder(tmp_path).written.write_text('{"prompt": [')
    shutil.rmtree(RunFolder(tmp_path).adapter)
    with pytest.raises(UserError, match=r"predictions\.jsonl: line 1 is not readable as JSON .*; remove the file"):
        card_of(tmp_path, CHAT, [])


def test_where_all_are_long_the_shortest_is(tmp_path: Path) -> None:
    assert "to line 1 of" in card_of(tmp_path, E2E, [LONG | {"source": "x"}, CUT])


@pytest.mark.parametrize("rows", [[], [GOOD | {"messages": [{"role": "user", "content": "q"}]}]], ids=["none", "one"])
def test_a_chat_model_is_asked_in_turns_also_where_nothing_was_sampled(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    found = [{name: value for name, value in row.items() if name != "source"} for row in rows]
    text = card_of(tmp_path, CHAT, found, "org/base/x.gguf")
    assert "the GGUF file `x.gguf` in `org/base`" in text
    assert "gguf_file=AutoConfig.from_pretrained(adapter).gguf_file,\n    dtype=" in text
    asked = "q" if rows else "..."
    assert f"messages = [{{'role': 'user', 'content': '{asked}'}}]" in text
    assert "num_beams=1, max_new_tokens=128" in text
    assert ("to line 1 of" in text) == bool(rows)


def metadata(text: str) -> dict[str, Any]:
    """What the hub reads of a card."""
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_the_hub_finds_the_card_by_its_base_and_by_what_the_model_does(tmp_path: Path) -> None:
    """PEFT's own card, which this one replaces, has the same."""
    assert metadata(card_of(tmp_path, CHAT, [])) == {
        "library_name": "peft", "base_model": "org/base", "pipeline_tag": "text-generation",
        "tags": ["base_model:adapter:org/base", "lora", "transformers"],
    }  # fmt: skip


def test_task_data_result_and_ranks_stand_in_it(tmp_path: Path) -> None:
    text = card_of(tmp_path, (*CHAT, "--model.revision", "v1"), [])
    assert "\n---\n# mine\n" in text
    assert "A PEFT LoRA adapter of `org/base`, revision `v1` (packages peft, transformers)." in text
    assert "| data | x.jsonl |" in text
    assert "| result | bleu 0.6124 on train.csv, held-out tenth; loss 1.2500 |" in text
    assert "| ranks | mean 1.33 of k = 4 over 3 layers, 1 of them at rank 0; scale 2 on each component |" in text
    assert "| size | 12,345 LoRA parameters, 23,456 trained in all |" in text
    assert "| | 0 | 1 |\n|---|---|---|\n| q | 3 | 1 |\n| v | 0 |  |\n" in text


def test_ranks_that_no_search_chose_are_not_said_to_be_of_k(tmp_path: Path) -> None:
    record = RankRecord(8, (LayerRank("0.q", 16), LayerRank("1.q", 16)))
    assert "| ranks | mean 16.00 over 2 layers |" in card_of(tmp_path, CHAT, [], record=record)


@pytest.mark.parametrize(
    ("scale", "words"), [("fixed", "the layer's rank"), ("rslora", "the square root of the layer's rank")]
)
def test_the_scale_stands_in_it(tmp_path: Path, scale: str, words: str) -> None:
    text = card_of(tmp_path, CHAT, [], record=dataclasses.replace(RECORD, scale=scale))
    assert f"1 of them at rank 0; scale lora_alpha 8 / {words} |" in text
    text = card_of(tmp_path, CHAT, [], record=dataclasses.replace(RECORD, scale="mean_rank"))
    assert "1 of them at rank 0; scale 2.828 on each component |" in text, "8 / sqrt(4 * 2)"


def test_no_path_of_this_machine_stands_in_it(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "x.jsonl").touch()
    given = ("--task.type", "chat", "--task.path", str(tmp_path / "x.jsonl"))
    text = card_of(tmp_path, given, [], str(tmp_path / "base"))
    assert str(tmp_path) not in text
    assert "adapter of the local folder `base` (" in text
    assert metadata(text).keys() == {"library_name", "pipeline_tag", "tags"}
    assert metadata(text)["tags"] == ["lora", "transformers"]


@pytest.mark.parametrize(
    ("arguments", "call", "answer"),
    [
        (
            ("--task.type", "glue", "--task.name", "mrpc", "--task.max_length", "80"),
            'tokenizer("...", "...", truncation=True, max_length=80, return_tensors="pt")',
            "id2label",
        ),
        (
            ("--task.type", "glue", "--task.name", "stsb"),
            'tokenizer("...", "...", ',
            "print(logits.flatten().tolist())",
        ),
        (("--task.type", "glue", "--task.name", "sst2"), 'tokenizer("...", truncation=True, max_length=', "id2label"),
        (
            ("--task.type", "tokens", "--task.path", "x.conll", "--task.max_length", "80"),
            "is_split_into_words=True, truncation=True, max_length=80, ",
            "AutoModelForTokenClass",
        ),
    ],
)
def test_the_lines_fit_the_task(arguments: tuple[str, ...], call: str, answer: str) -> None:
    config = parse([*arguments, "--model.name", "org/base"]).config
    lines = loading_lines(make_task(config), chat_tokenizer(), config, torch.float32, {})
    ast.parse(lines)
    assert call in lines
    assert answer in lines


@pytest.mark.trains
def test_the_lines_of_a_classifier_give_the_runs_own_logits(exported: Exported) -> None:
    names = run_card(exported.folder.adapter)
    assert torch.equal(exported.logits_of(names["model"]), exported.logits)
    text = (exported.folder.adapter / "README.md").read_text()
    assert "(sample: negative, positive)" in text
    assert metadata(text)["pipeline_tag"] == "text-classification"
    assert "## Servers" not in text


@pytest.mark.trains
def test_the_adapter_of_a_packages_model_loads_on_another_machine(
    model_folder: Callable[..., Path], make_config: Callable[..., RunConfig], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The package lies elsewhere there, and nothing of the run but its adapter/ is there."""
    here, there = tmp_path / "here", tmp_path / "there"
    package = here / "site" / "tiny_base_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('a package that must not be imported')")
    shutil.copytree(model_folder("bert"), package / "model")
    monkeypatch.syspath_prepend(str(here / "site"))
    config = make_config(here, "bert", "--model.name", "package:tiny_base_package/model")
    made = make_export(config, "bert", package / "model")
    shutil.copytree(made.folder.adapter, there / "adapter")
    shutil.move(here / "site", there / "site")
    shutil.rmtree(here)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(here / "site")])
    monkeypatch.syspath_prepend(str(there / "site"))
    names = run_card(there / "adapter")
    assert torch.equal(made.logits_of(names["model"]), made.logits)
    text = (there / "adapter" / "README.md").read_text()
    assert 'find_spec("tiny_base_package")' in text
    assert str(tmp_path) not in text
    assert "adapter of `package:tiny_base_package/model`" in text
