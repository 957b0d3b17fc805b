"""Command line and YAML to a configuration; every mistake is one line with what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from configs.cli import CONFIGS, DEFAULT_CONFIG, parse, shipped_configs, to_yaml, with_values
from configs.errors import UserError
from configs.keys import known_keys
from configs.schema import RunConfig


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_config_parses_and_opens_with_its_command(name: str) -> None:
    request = parse(["--config", name])
    assert request.config.name == Path(name).stem
    assert request.source == name
    first = (CONFIGS / name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("#")
    assert f"run.py --config {name}" in first
    given = yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))
    assert parse(["--config", str(CONFIGS / name)]).config == request.config
    for section, values in given.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            if f"{section}.{key}" in known_keys():
                assert getattr(getattr(request.config, section), key) == value


def test_without_a_config_it_is_the_quickstart() -> None:
    assert parse([]).config == parse(["--config", DEFAULT_CONFIG]).config
    assert parse(["--seed", "3"]).config.name == "quickstart"


def test_the_command_line_wins_over_the_file_before_and_after_it() -> None:
    assert (
        parse(["--config", "glue_sst2.yaml", "--lora.k", "5", "--stage", "search", "--overwrite"]).config.lora.k == 5
    )
    request = parse(["--config=glue_sst2.yaml", "--name", "mine", "--lora.target_modules", "[a,b]"])
    assert request.config.name == "mine"
    assert request.config.lora.target_modules == ["a", "b"]
    assert request.config.search.steps == 4210
    assert (request.stage, request.overwrite) == ("all", False)


def test_a_config_from_to_yaml_is_the_same_config(tmp_path: Path) -> None:
    arguments = ["--hypergradient.eta", "0.5", "--retrain.epochs", "2.5", "--task.train_rows", "7"]
    config = parse([*arguments, "--search.learning_rate", "1e-5", "--tracking.group", "é: #"]).config
    (tmp_path / "again.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert parse(["--config", str(tmp_path / "again.yaml")]).config == config
    assert yaml.safe_load(to_yaml(config))["search"]["learning_rate"] == 1e-5


def test_numbers_without_a_point_before_the_e_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("search:\n  learning_rate: 1e-4\nhypergradient:\n  eta: 1e-3\n")
    config = parse(["--config", str(tmp_path / "c.yaml")]).config
    assert config.search.learning_rate == 1e-4
    assert config.hypergradient.eta == 1e-3


WRONG = {
    "misspelt": (["--search.setps", "3"], "unknown key 'search.setps'; did you mean 'search.steps'?"),
    "without its section": (
        ["--constraint", "softmax"],
        "unknown key 'constraint'; did you mean 'search.constraint'?",
    ),
    "in another section": (["--model.k", "4"], "unknown key 'model.k'; did you mean 'lora.k'?"),
    "far from all": (["--zzzzqq", "1"], "unknown key 'zzzzqq'; --help lists the keys"),
    "text for a number": (
        ["--search.steps", "many"],
        "--search.steps: 'many' is not allowed; allowed: a whole number",
    ),
    "fraction": (["--lora.k", "2.5"], "--lora.k: '2.5' is not allowed; allowed: a whole number"),
    "choice": (
        ["--search.constraint", "softmx"],
        "--search.constraint: 'softmx' is not allowed; allowed: softmax, sigmoid, none",
    ),
    "stage": (["--stage", "train"], "--stage: 'train' is not allowed; allowed: all, search, retrain, report"),
    "eta": (["--hypergradient.eta", "big"], "--hypergradient.eta: 'big' is not allowed; allowed: a number, lr, betty"),
    "null": (["--seed", "null"], "--seed: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_on_the_command_line_is_one_line_with_what_would_be_right(case: str) -> None:
    arguments, message = WRONG[case]
    with pytest.raises(UserError) as caught:
        parse(arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


WRONG_FILES = {
    "unknown key": ("search:\n  setps: 3\n", "c.yaml: unknown key 'search.setps'; did you mean 'search.steps'?"),
    "unknown section": ("serach:\n  steps: 3\n", "c.yaml: unknown key 'serach.steps'; did you mean 'search.steps'?"),
    "key of another section": ("k: 8\n", "c.yaml: unknown key 'k'; did you mean 'lora.k'?"),
    "wrong type": ("search:\n  steps: many\n", "--search.steps: 'many' is not allowed; allowed: a whole number"),
    "no mapping": ("- a\n- b\n", "c.yaml: "),
    "no YAML": ("search: [1,\n", "c.yaml: "),
    "a value for a section": ("search: 5\n", "search: 5 is not allowed; allowed: keys with values, as search.steps"),
    "nothing for a section": ("search:\n", "c.yaml: "),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_mistake_in_a_file_is_one_line_too(tmp_path: Path, case: str) -> None:
    content, message = WRONG_FILES[case]
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        parse(["--config", str(path)])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_config_lists_the_shipped_ones() -> None:
    with pytest.raises(UserError, match=r"^--config: no file 'nosuch\.yaml' here or in configs/") as caught:
        parse(["--config", "nosuch.yaml"])
    assert {"quickstart.yaml", "glue_sst2.yaml"} <= set(str(caught.value).split("Shipped: ")[1].split(", "))


def test_print_config_shows_the_resolved_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--config", "glue_sst2.yaml", "--seed", "9", "--print_config"])
    assert ended.value.code == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["seed"] == 9
    assert shown["search"]["steps"] == 4210
    assert shown["search"]["patience"] == 10


def test_help_says_what_a_key_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--search.unroll_steps" in text
    assert "Inner steps per outer step. Paper: 1." in text


def test_with_values_is_the_command_line_for_programs() -> None:
    config = parse([]).config
    changed = with_values(config, {"search.steps": 7, "hypergradient.eta": "lr", "lora.target_modules": ["a"]})
    assert (changed.search.steps, changed.hypergradient.eta, changed.lora.target_modules) == (7, "lr", ["a"])
    assert changed.search.learning_rate == config.search.learning_rate
    assert isinstance(changed, RunConfig)
    assert with_values(config, {}) == config
    for values, message in (
        ({"search.setps": 7}, "did you mean 'search.steps'"),
        ({"search.steps": 0}, "--search.steps: 0 is not allowed"),
        ({"search.steps": "x"}, "--search.steps"),
    ):
        with pytest.raises(UserError, match=message):
            with_values(config, values)
