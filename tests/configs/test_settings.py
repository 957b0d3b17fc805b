"""Settings from files and the command line; every mistake is one line with what would be right."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from autolora.configs.errors import UserError
from autolora.configs.files import (
    CONFIGS,
    DEFAULT_CONFIG,
    find_config,
    load_config,
    shipped_configs,
    to_yaml,
)
from autolora.configs.layers import flat, keys, marks, settings, with_values
from autolora.configs.layers import given as given_keys
from autolora.configs.parser import parse_command
from autolora.configs.requests import ShowRequest, WorkspaceRequest
from autolora.configs.schema import METHODS, Autolora, RunConfig
from autolora.configs.search import BUILT_IN
from autolora.configs.section import COST, EVALUATE
from tests.helpers.command import parse


def words_of(values: dict[str, Any]) -> list[str]:
    """Keys and values as a command line has them."""
    return [
        word
        for key, value in values.items()
        for word in (f"--{key}", value if isinstance(value, str) else json.dumps(value))
    ]


def keys_of(config: RunConfig) -> dict[str, Any]:
    """Every dotted key and its value."""
    return flat(config.model_dump(by_alias=True))


def refusal(words: str | list[str]) -> str:
    """The line with which a command is refused."""
    with pytest.raises(UserError) as caught:
        parse_command(words.split() if isinstance(words, str) else words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_file_parses_begins_with_its_command_and_prints_back_equal(
    name: str, tmp_path: Path
) -> None:
    request = parse(["--config", name])
    assert (request.config.name, request.notes) == (Path(name).stem, ()), "no key of it is left out"
    first = (CONFIGS / name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("#")
    assert f"run.py --config {name}" in first
    (tmp_path / "again.yaml").write_text(to_yaml(request.config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml") == load_config(CONFIGS / name) == request.config


def test_without_a_file_it_is_the_shipped_quickstart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_CONFIG).write_text("seed: 3\n")
    assert parse([]).config == load_config(CONFIGS / DEFAULT_CONFIG)
    assert parse(["--config", DEFAULT_CONFIG]).config.seed == 3
    with pytest.raises(
        UserError, match=r"^--config: no file 'glue_sst' here or in configs/; shipped: beta"
    ):
        find_config("glue_sst")


TYPES = ("text", "tokens", "chat")
CHOICES = {
    "method": [*METHODS],
    "task.type": [*TYPES],
    "hypergradient.type": [*BUILT_IN, "mine.py:Mine"],
    "choose.rule": ["shares", "threshold", "size"],
}
PLACE = {"task.path": "rows.csv", "lora.ranks_from": "x"}


def with_place(choice: dict[str, str]) -> dict[str, str]:
    """The choice with what it needs: where its rows or ranks lie."""
    readers = {key: {(one.choice, one.value) for one in keys()[key]} for key in PLACE}
    return choice | {key: PLACE[key] for key in PLACE if readers[key] & set(choice.items())}


@pytest.mark.parametrize(("tag", "choice"), [(tag, one) for tag in CHOICES for one in CHOICES[tag]])
def test_a_choice_is_made_by_its_key_or_by_its_section_s_name(tag: str, choice: str) -> None:
    place = with_place({tag: choice})
    config = settings(place)
    assert keys_of(config)[tag] == choice
    short = {tag.partition(".")[0]: choice} | {
        key: value for key, value in place.items() if key != tag
    }
    assert settings(short) == config


def test_layers_win_in_their_order_and_words_in_none(tmp_path: Path) -> None:
    (tmp_path / "low.yaml").write_text("seed: 3\nlora.k: 4\nsearch: {steps: 5, batch_size: 2}\n")
    (tmp_path / "high.yaml").write_text("search.steps: 6\n")
    files = ["--config", str(tmp_path / "low.yaml"), "--config", str(tmp_path / "high.yaml")]
    for words in ([*files, "--seed", "7"], ["--seed=7", *files]):
        found = keys_of(parse(words).config)
        assert [found[key] for key in ("name", "seed", "lora.k")] == ["high", 7, 4]
        assert [found[f"{key}.batch_size"] for key in ("search", "retrain")] == [2, 16]
    assert (
        keys_of(load_config(tmp_path / "low.yaml", {"search.steps": 6}))["search.steps"]
        == found["search.steps"]
    )
    request = parse(
        ["--lora.k", "5", "--stage", "search", "--overwrite", "--config", "glue_sst2.yaml"]
    )
    assert keys_of(request.config)["lora.k"] == 5
    assert (request.stage, request.overwrite) == ("search", True)
    assert (parse([]).stage, parse([]).overwrite) == ("all", False)


def test_a_key_of_a_file_that_the_choice_lacks_is_left_out_and_told() -> None:
    request = parse(["--config", "glue_sst2.yaml", "--method", "lora"])
    assert request.config.method == "lora"
    assert request.notes[0].startswith(
        "glue_sst2.yaml: left out what does not belong to this command's choices: "
        "choose.rule, hypergradient.eta"
    )
    assert request.given == {"method"}
    again = with_values(settings({"search.steps": 5}), {"method": "lora", "lora.r": 2})
    assert flat(given_keys(again)) == {"method": "lora", "lora.r": 2}


def test_patience_belongs_to_the_rule_threshold() -> None:
    config = parse(["--choose", "threshold", "--search.patience", "3"]).config
    assert isinstance(config, Autolora)
    assert config.search.checks == (20, 3)
    never = with_values(config, {"search.patience": 0})
    assert isinstance(never, Autolora)
    assert never.search.checks == (20, 0)
    other = parse(
        ["--config", "study_hypergradients.yaml", "--choose", "size", "--study.axes", "{}"]
    )
    assert keys_of(other.config)["search.patience"] is None
    assert "search.patience" in other.notes[0]


def test_a_study_is_read_back_with_what_only_some_cells_read_and_its_axes_in_their_order(
    tmp_path: Path,
) -> None:
    """The names of its cells follow the order."""
    axes = "{seed: [1, 0], method: [autolora, lora], a: {z: {}, b: {}}}"
    config = parse(["--study.axes", axes, "--lora.r", "3", "--name", "1e-3"]).config
    assert config.is_study
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    again = load_config(tmp_path / "config.yaml")
    assert again == config
    assert again.study is not None
    assert again.study.others == {"lora.r": "3"}
    assert json.dumps(again.study.axes) == json.dumps(yaml.safe_load(axes))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["--seed", "3"], ["--seed=4"]),
        (["--task", "text"], ["--task.type", "text"]),
        (["--lora", "{k: 3}"], ["--lora.k=4"]),
    ],
)
def test_a_key_that_is_given_twice_is_refused_in_either_order(
    one: list[str], other: list[str]
) -> None:
    for words in (one + other, other + one):
        assert "is given twice; give it once" in refusal(words)


def test_a_choice_drops_the_place_of_other_data(tmp_path: Path) -> None:
    """A user's own table was reported as SST-2."""
    own = parse(
        ["--config", "glue_sst2.yaml", "--task", "text", "--task.path", "reviews.csv"]
    ).config
    assert own.task.result_name == "reviews"
    file = tmp_path / "mine.yaml"
    file.write_text(
        "task: {type: text, path: a, name: b, text_columns: [x], label_column: y, test_path: "
        "t, kind: regression}\n"
    )
    request = parse(["--config", str(file), "--task.path", "b.csv", "--task.label_column", "z"])
    assert flat(given_keys(request.config))["task.kind"] == "regression"
    task = request.config.task
    assert (task.result_name, task.path, task.file_of("test")) == ("b", "b.csv", None)
    assert request.notes[0].endswith(" choices: task.name, task.test_path, task.text_columns")
    printed = tmp_path / "config.yaml"
    printed.write_text(to_yaml(settings({"task.type": "text", "task.path": "a.csv"})))
    assert parse(["--config", str(printed), "--task.path", "b.csv"]).notes == (), (
        "nothing was given for it"
    )


WRONG = {
    "--task text --task.path x --task.samples 3": "--task.samples: there is no such key with "
    "task.type text; it belongs to task.type "
    "chat",
    "--hypergradient first_order --hypergradient.terms 3": "--hypergradient.terms: there is "
    "no such key with "
    "hypergradient.type first_order; "
    "it belongs to hypergradient.type "
    "neumann, cg",
    "--search.patience 3": "--search.patience: there is no such key with choose.rule shares; "
    "it belongs to choose.rule threshold",
    "--model.k 4": "--model.k: there is no such key; did you mean --lora.k or ",
    "--search.steps 0": "--search.steps: '0' is not allowed (Input should be greater",
    "--search.learning_rate=-1e-3": "--search.learning_rate: '-1e-3' is not allowed (Input",
    "--seed null": "--seed: None is not allowed (Input should be a valid",
    "--task foo": "--task.type: 'foo' is not allowed; allowed: text, ",
    "--method lora_ranks": "--lora.ranks_from: needs a value",
    "--lora.target_modules [all-linear,q]": "--lora.target_modules: all-linear stands alone",
    "--stage train": "--stage: invalid choice: 'train' (choose from ",
    "--for trl": "--for: belongs to --show",
    "quickstart.yaml": "'quickstart.yaml' belongs to no option; did you mean --config "
    "quickstart.yaml?",
    "--search.steps 2 --search.unroll_steps 3": (
        "--search.unroll_steps: 3 are more than search.steps"
    ),
    "--measure.rows 0": "--measure.rows: 0 are too few to measure",
    "--answer.rule size": "--answer.rule: is now --choose.rule",
    "--answer.from runs/x": "--answer.from: is now --measure.from",
    "--answer size": "--answer: is now --measure and --choose",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_mistake_is_one_line_with_what_would_be_right(words: str) -> None:
    assert refusal(words).startswith(WRONG[words])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "search:\n  setps: 3\n",
            ": --search.setps: there is no such key; did you mean --search.steps",
        ),
        ("search: 5\n", ": --search: there is no such key; did you mean --search."),
        (
            "lora.k: 0\n",
            ": --lora.k: 0 is not allowed (Input should be greater than or equal to 1); allowed: ",
        ),
        (
            "seed: 1\nseed: 2\n",
            ": not readable as YAML (line 1: seed is given twice; give it once)",
        ),
        ("search: {steps: 5}\nsearch.steps: 5\n", ": --search.steps: is given twice; give it once"),
    ],
)
def test_a_mistake_in_a_file_names_the_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert refusal(["--config", str(path)]).startswith(f"{path}{said}")


def test_values_that_several_kinds_of_words_give(tmp_path: Path) -> None:
    assert keys_of(settings({"lora.target_modules": "all-linear"}))["lora.target_modules"] == [
        "all-linear"
    ]
    config = parse(
        [
            "--retrain.learning_rate",
            "[1e-4, 3.0e-4]",
            "--measure.from",
            "{runs}/{seed}",
            "--name",
            "1e-3",
        ]
    ).config
    assert (config.retrain.rates, config.name) == ([1e-4, 3e-4], "1e-3")
    assert keys_of(config)["measure.from"] == "{runs}/{seed}"
    (tmp_path / "c.yaml").write_text(to_yaml(config) + "# é\n", encoding="utf-8")
    assert load_config(tmp_path / "c.yaml") == config
    assert "from_run" not in to_yaml(config)
    assert parse(["--retrain.learning_rate", "1e-3"]).config.retrain.rates == [1e-3]
    with pytest.raises(ValidationError):
        config.seed = 3


def test_a_command_may_ask_for_something_else_than_a_run() -> None:
    assert parse_command(["--show", "runs/a"]) == ShowRequest("runs/a")
    assert parse_command(["--show", "runs/a", "--for", "llama-factory"]) == ShowRequest(
        "runs/a", "llama-factory"
    )
    assert parse_command(["--workspace", "runs/a"]) == WorkspaceRequest("runs/a")


def test_each_trial_of_a_sweep_is_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "ab12")
    assert parse(["--config", "glue_sst2.yaml"]).config.name == "glue_sst2", (
        "only a sweep has trials"
    )
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    assert parse(["--config", "glue_sst2.yaml"]).config.name == "glue_sst2-ab12"


@pytest.mark.parametrize("method", METHODS)
def test_every_key_of_a_method_is_read_in_any_order(method: str) -> None:
    """With every key of the method on the command line."""
    chance = random.Random(0)
    for kind, hypergradient, rule in zip(
        TYPES, ("darts", "cg", "none"), CHOICES["choose.rule"], strict=True
    ):
        of_search = (
            {"hypergradient.type": hypergradient, "choose.rule": rule}
            if method == "autolora"
            else {}
        )
        config = settings(with_place({"method": method, "task.type": kind, **of_search}))
        pairs = [(key, value) for key, value in keys_of(config).items() if key in keys()]
        for _ in range(3):
            chance.shuffle(pairs)
            assert parse(words_of(dict(pairs))).config == config
        assert settings(yaml.safe_load(to_yaml(config))) == config


def test_ranks_that_need_no_measurement_need_no_rows() -> None:
    for words in (
        "--choose size --choose.budget 1 --measure.rows 0",
        "--choose threshold --measure.rows 0",
    ):
        parse(words.split())


def test_marks_say_which_keys_change_no_result() -> None:
    cost = {key for key, mark in marks(Autolora()).items() if mark is COST}
    assert {
        "search.checkpoint_every",
        "retrain.checkpoint_every",
        "model.gradient_checkpointing",
    } < cost
    assert "search.steps" not in cost
    chat = settings({"task.type": "chat", "task.path": "a.jsonl"})
    evaluates = {key for key, mark in marks(chat).items() if mark is EVALUATE}
    assert {"task.samples", "task.decode.num_beams", "task.metrics", "task.unused_rows"} < evaluates


def test_the_recipe_of_the_benchmarks_is_not_that_of_an_own_table() -> None:
    """LoRA's code for GPT-2: label smoothing 0.1 and 10 beams."""
    for more, smoothing, beams in (
        ({"task.format": "e2e"}, 0.1, 10),
        ({"task.format": "pairs"}, 0.0, 1),
    ):
        task = settings({"task.type": "chat", "task.path": "a.csv", **more}).task
        assert (task.smoothing, task.decoding.num_beams) == (smoothing, beams)
