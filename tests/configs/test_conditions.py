"""What decides whether a key is read."""

import pytest

from autolora.configs.conditions import divides, has_template, reads_hub, uses_r
from autolora.configs.parser import parse


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--task.type", "glue", "--task.name", "sst2"), True),
        (("--task.type", "chat", "--task.path", "org/chats"), True),
        (("--task.type", "chat", "--task.path", "chats.jsonl"), False),
        (("--task.type", "text", "--task.path", "a.csv"), False),
        ((), False),
    ],
)
def test_rows_may_come_from_the_hub(arguments: tuple[str, ...], *, found: bool) -> None:
    assert reads_hub(parse(arguments).config) is found


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--method", "lora"), True),
        (("--method", "para"), True),
        (("--method", "para", "--lora.budget", "1"), False),
        (("--method", "lora_random", "--lora.ranks_from", "ranks.json"), False),
        (("--method", "head"), False),
    ],
)
def test_the_number_of_parameters_follows_from_r(arguments: tuple[str, ...], *, found: bool) -> None:
    assert uses_r(parse(arguments).config) is found


def test_training_rows_are_divided_by_searches_and_by_sweeps() -> None:
    assert divides(parse([]).config)
    assert not divides(parse(["--method", "lora"]).config)
    assert divides(parse(["--method", "lora", "--retrain.learning_rates", "[1e-3, 3e-3]"]).config)


def test_a_chat_has_a_template_and_a_benchmark_of_texts_has_none_unasked() -> None:
    assert has_template(parse(["--task.type", "chat", "--task.path", "a.jsonl"]).config)
    e2e = ["--task.type", "generation", "--task.name", "e2e"]
    assert not has_template(parse(e2e).config)
    assert has_template(parse([*e2e, "--task.prompt", "chat"]).config)
