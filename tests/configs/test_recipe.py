"""LoRA's recipe for GPT-2 is that of E2E and WebNLG alone; what is given always counts."""

from typing import get_args, get_type_hints

import pytest

from autolora.configs.parser import parse
from autolora.configs.recipe import (
    Decoding,
    decoding,
    evaluation_path,
    evaluation_split,
    is_benchmark,
    label_smoothing,
    own_data,
    writes_texts,
)
from autolora.configs.schema import RunConfig, TaskConfig

RECIPE = Decoding(10, 0.8, 4, 64, 8)


def config(*arguments: str) -> RunConfig:
    return parse(["--task.path", "x.jsonl", *arguments]).config


@pytest.mark.parametrize("name", ["e2e", "webnlg"])
def test_the_benchmarks_have_the_recipe(name: str) -> None:
    found = config("--task.type", "generation", "--task.name", name)
    assert is_benchmark(found.task)
    assert decoding(found) == RECIPE
    assert label_smoothing(found.task) == 0.1


@pytest.mark.parametrize("kind", get_args(get_type_hints(TaskConfig)["type"]))
def test_every_type_but_the_sample_and_glue_may_have_rows_of_the_user(kind: str) -> None:
    assert own_data(TaskConfig(type=kind, name="mine")) == (kind not in ("sample", "glue"))  # type: ignore[arg-type]
    assert not own_data(TaskConfig(type="generation", name="e2e"))


@pytest.mark.parametrize(("metrics", "written"), [("[token-accuracy]", False), ("[Perplexity,bleu]", True)])
def test_texts_are_written_for_metrics_that_read_them(metrics: str, written: bool) -> None:
    assert writes_texts(config("--task.type", "generation", "--task.metrics", metrics).task) == written


def test_an_own_table_is_written_greedily_and_learned_without_smoothing() -> None:
    found = config("--task.type", "generation", "--task.name", "mine")
    assert not is_benchmark(found.task)
    assert decoding(found) == Decoding(1, 1.0, 0, 64, 8)
    assert label_smoothing(found.task) == 0.0


@pytest.mark.parametrize("name", ["e2e_gpt2", "e2e_llama", "e2e_smollm2", "webnlg_gpt2"])
def test_the_shipped_configurations_give_an_own_table_its_own_way(name: str) -> None:
    assert decoding(parse(["--config", f"{name}.yaml"]).config) == RECIPE
    mine = parse(["--config", f"{name}.yaml", "--task.name", "mine", "--task.path", "x.jsonl"]).config
    assert decoding(mine) == Decoding()


def test_what_is_given_counts() -> None:
    given = ("--decode.num_beams", "3", "--decode.length_penalty", "0", "--decode.no_repeat_ngram_size", "0",
             "--decode.max_new_tokens", "9", "--decode.batch_size", "2", "--task.label_smoothing", "0")  # fmt: skip
    for name in ("e2e", "mine"):
        found = config("--task.type", "generation", "--task.name", name, *given)
        assert decoding(found) == Decoding(3, 0.0, 0, 9, 2)
        assert label_smoothing(found.task) == 0.0


def test_chat_is_greedy_one_at_a_time() -> None:
    assert decoding(config("--task.type", "chat")) == Decoding(max_new_tokens=128, batch_size=1)
    assert decoding(config("--task.type", "chat", "--decode.max_new_tokens", "7")).max_new_tokens == 7


@pytest.mark.parametrize(
    ("settings", "split"),
    [
        ({}, "validation"),
        ({"validation_path": "v.csv"}, "validation"),
        ({"validation_path": "v.csv", "test_path": "t.csv"}, "test"),
        ({"test_path": "t.csv", "evaluation_split": "validation"}, "validation"),
    ],
)
def test_the_reported_split_is_as_asked_else_test_else_validation(settings: dict[str, str], split: str) -> None:
    assert evaluation_split(TaskConfig(**settings)) == split  # type: ignore[arg-type]


def test_the_file_of_a_split_is_the_users_own() -> None:
    task = TaskConfig(validation_path="v.csv")
    assert [evaluation_path(task, split) for split in ("validation", "test", "train")] == ["v.csv", None, None]
