"""What follows from a configuration is what the registries and the parts that read it say."""

from pathlib import Path

import pytest

from autolora.configs import facts
from autolora.configs.parser import parse


@pytest.mark.parametrize(("flag", "answer"), [("", False), ("    second_order = True\n", True)])
def test_ones_own_hypergradient_says_itself_whether_it_is_second_order(
    tmp_path: Path, flag: str, answer: bool
) -> None:
    (tmp_path / "mine.py").write_text(f"class Mine:\n    name = 'mine'\n{flag}")
    config = parse(["--hypergradient.type", f"{tmp_path / 'mine.py'}:Mine"]).config
    assert facts.second_order(config) is answer
    assert bool(facts.second_derivatives(config)) is answer
    assert not facts.second_order(parse(["--hypergradient.type", "darts"]).config)


def test_a_language_model_is_evaluated_in_the_batch_of_its_training() -> None:
    """64 rows of a large vocabulary would not fit into memory."""
    assert facts.evaluation_batch(parse(["--retrain.batch_size", "4"]).config) == 64
    chat = ("--task.type", "chat", "--task.path", "x.jsonl")
    assert facts.evaluation_batch(parse([*chat, "--retrain.batch_size", "4"]).config) == 4
    assert facts.evaluation_batch(parse([*chat, "--retrain.eval_batch_size", "9"]).config) == 9


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--answer.rule", "threshold"), False),
        (("--answer.rule", "size"), True),
        (("--answer.rule", "size", "--answer.budget", "1"), False),
        (("--answer.rule", "shares", "--answer.budget", "1"), True),
    ],
)
def test_shares_and_a_budget_found_on_the_curve_need_evidence(arguments: tuple[str, ...], wanted: bool) -> None:
    assert facts.needs_evidence(parse([*arguments]).config.answer) is wanted


def test_the_data_seed_is_the_runs_unless_it_is_set() -> None:
    assert facts.data_seed(parse(["--seed", "7"]).config) == 7
    assert facts.data_seed(parse(["--seed", "7", "--task.seed", "0"]).config) == 0


@pytest.mark.parametrize(
    ("settings", "seed"),
    [({"seed": 7, "task.seed": 0}, 0), ({"seed": 7, "task.seed": None}, 7), ({"seed": 7}, 7), ({}, None)],
)
def test_the_recorded_data_seed_follows_as_that_of_a_configuration(
    settings: dict[str, int | None], seed: int | None
) -> None:
    assert facts.recorded_data_seed(settings) == seed


@pytest.mark.parametrize(
    ("key", "more", "read"),
    [
        ("seed", (), True),
        ("hypergradient.options", (), True),
        ("search.learning_rate", (), True),
        ("method", (), False),  # the comparison's search has method autolora
        ("task.metrics", (), False),
        ("retrain.epochs", (), False),
        ("seed", ("--answer.from", "runs/a"), False),  # such a study compares nothing
    ],
)
def test_what_the_comparison_of_hypergradients_reads(key: str, more: tuple[str, ...], read: bool) -> None:
    study = ("--study.axes", "{seed: [0, 1]}", "--study.probe.steps", "[4]")
    assert facts.read_by_comparison(key, parse([*study, *more]).config) == read
    assert not facts.read_by_comparison(key, parse([*study[:2], *more]).config)
