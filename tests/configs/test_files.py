"""Configurations as YAML files; a mistake in one is one line that names the file."""

from pathlib import Path

import pytest
import yaml

from autolora.configs.errors import UserError
from autolora.configs.files import CONFIGS, find_config, load_config, to_yaml
from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig


def test_a_missing_config_lists_the_shipped_ones() -> None:
    with pytest.raises(UserError, match=r"^--config: no file 'nosuch\.yaml' here or in configs/") as caught:
        find_config("nosuch.yaml")
    assert {"quickstart.yaml", "glue_sst2.yaml"} <= set(str(caught.value).split("Shipped: ")[1].split(", "))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("glue_sst2", "glue_sst2.yaml"),
        ("glue_sst2.yml", "glue_sst2.yaml"),
        ("configs/glue_sst2.yaml", "glue_sst2.yaml"),
        ("glue_sst.yaml", "glue_sst2.yaml"),
        ("sst2", "glue_sst2.yaml"),
        ("quickstrat.yaml", "quickstart.yaml"),
        ("table1", "table1_glue.yaml or table1_minilm.yaml"),
        ("mine", "mine.yaml"),
        ("my run", "'my run.yaml'"),
        ("runs/x", "runs/x/config.yaml"),
        ("runs/x/", "runs/x/config.yaml"),
        ("quickstart", "quickstart/config.yaml"),  # a folder here is nearer than a shipped name
    ],
)
def test_a_name_that_is_near_to_a_file_is_answered_by_that_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("mine.yaml", "my run.yaml", "runs/x/config.yaml", "quickstart/config.yaml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("seed: 3\n")
    with pytest.raises(UserError) as caught:
        parse(["--config", name])
    assert str(caught.value) == f"--config: no file {name!r} here or in configs/; did you mean {meant}?"


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b"])
def test_a_name_that_no_file_system_takes_is_a_missing_config(name: str) -> None:
    with pytest.raises(UserError, match=r"^--config: no file .* here or in configs/") as caught:
        find_config(name)
    assert len(str(caught.value)) < 700


def test_a_config_of_a_bare_name_is_looked_up_here_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("fast.yaml") == CONFIGS / "fast.yaml"
    (tmp_path / "fast.yaml").write_text("seed: 3\n")
    assert find_config("fast.yaml").resolve() == (tmp_path / "fast.yaml").resolve()


def test_a_file_without_a_name_is_named_by_itself_and_the_rest_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 3\n")
    assert load_config(tmp_path / "mine.yaml") == RunConfig(name="mine", seed=3)
    (tmp_path / "mine.yaml").write_text("name: other\nlora: {}\n")
    assert load_config(tmp_path / "mine.yaml") == RunConfig(name="other")


def test_given_values_stand_in_place_of_the_file_s(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("task:\n  type: text\nlora:\n  k: 4\n  r: 2\n")
    with pytest.raises(UserError, match=r"c\.yaml: --task\.path: null is not allowed for --task\.type text"):
        load_config(path)
    values = {"task.path": "a.csv", "lora.k": 5, "search.steps": 7, "study.axes": {"method": ["lora"]}}
    config = load_config(path, values)
    assert (config.task.path, config.lora.k, config.lora.r, config.search.steps) == ("a.csv", 5, 2, 7)
    assert config.study.axes == {"method": ["lora"]}
    with pytest.raises(UserError, match=r"c\.yaml: unknown key 'lora\.kk'; did you mean 'lora\.k'"):
        load_config(path, {"lora.kk": 5})


def test_a_config_from_to_yaml_is_the_same_config(tmp_path: Path) -> None:
    arguments = ["--hypergradient.eta", "0.5", "--retrain.epochs", "2.5", "--task.train_rows", "7"]
    config = parse([*arguments, "--search.learning_rate", "1e-5", "--tracking.group", "é: #"]).config
    (tmp_path / "again.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert parse(["--config", str(tmp_path / "again.yaml")]).config == load_config(tmp_path / "again.yaml") == config
    assert yaml.safe_load(to_yaml(config))["search"]["learning_rate"] == 1e-5


def test_numbers_without_a_point_before_the_e_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "search:\n  learning_rate: 1e-4\nhypergradient:\n  eta: 1e-3\nstudy:\n  axes: {seed: [1e-3]}\n"
    )
    config = load_config(tmp_path / "c.yaml")
    assert parse(["--config", str(tmp_path / "c.yaml")]).config == config
    assert config.search.learning_rate == 1e-4
    assert config.hypergradient.eta == 1e-3
    assert config.study.axes == {"seed": [1e-3]}


WRONG: dict[str, tuple[str | bytes, str]] = {
    "unknown key": ("search:\n  setps: 3\n", "c.yaml: unknown key 'search.setps'; did you mean 'search.steps'?"),
    "unknown section": ("serach:\n  steps: 3\n", "c.yaml: unknown key 'serach.steps'; did you mean 'search.steps'?"),
    "key of another section": ("k: 8\n", "c.yaml: unknown key 'k'; did you mean 'lora.k'?"),
    "wrong type": (
        "search:\n  steps: many\n",
        "c.yaml: --search.steps: 'many' is not allowed; allowed: a whole number",
    ),
    "unknown key without a value": ("lora: {kk: }\n", "c.yaml: unknown key 'lora.kk'; did you mean 'lora.k'?"),
    "unknown key of nothing": ("serach: {}\n", "c.yaml: unknown key 'serach'"),
    "no mapping": ("- a\n- b\n", "c.yaml: needs keys with values; holds ['a', 'b']"),
    "empty": ("", "c.yaml: needs keys with values; holds null"),
    "no YAML": ("search: [1,\n", "c.yaml: not readable as YAML ("),
    "not UTF-8": (b"name: \xff\n", "c.yaml: not readable as YAML ("),
    "a value for a section": (
        "search: 5\n",
        "c.yaml: search: 5 is not allowed; allowed: keys with values, such as search.steps",
    ),
    "a value for an inner section": (
        "study:\n  ray: 5\n",
        "c.yaml: study.ray: 5 is not allowed; allowed: keys with values, such as study.ray.address",
    ),
    "nothing for a section": ("search:\n", "c.yaml: search: null is not allowed; allowed: keys with values, such as"),
    "nothing for one section of two": (
        "seed: 1\nsearch:\n",
        "c.yaml: search: null is not allowed; allowed: keys with",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_in_a_file_is_one_line_that_names_it(tmp_path: Path, case: str) -> None:
    content, message = WRONG[case]
    path = tmp_path / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = []
    for read in (lambda: parse(["--config", str(path)]), lambda: load_config(path)):
        with pytest.raises(UserError) as caught:
            read()
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert said[0].startswith(f"{tmp_path}/{message}")
    assert "\n" not in said[0]


@pytest.mark.parametrize(
    "content",
    ["answer.from: runs/x\n", "answer: {from: runs/x}\n", "answer.from_run: runs/x\nanswer: {tolerance: 0.5}\n"],
)
def test_answer_from_may_stand_in_its_section_or_in_full(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"seed: 3\n{content}")
    assert load_config(path).answer.from_run == "runs/x"
    assert parse(["--config", str(path)]).config == load_config(path)


@pytest.mark.parametrize(
    "content",
    [
        "answer: {from: runs/x, from_run: runs/y}\n",
        "answer.from: runs/x\nanswer: {from_run: runs/y}\n",
        "answer.from_run: runs/x\nanswer.from: runs/y\n",
        "answer.from_run: runs/x\nanswer: {from: runs/y}\n",
    ],
)
def test_both_names_of_answer_from_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    for read in (lambda: parse(["--config", str(path)]), lambda: load_config(path)):
        with pytest.raises(UserError) as caught:
            read()
        words = "answer.from and answer.from_run are two names of one key; allowed: one of them"
        assert str(caught.value) == f"{path}: {words}"


WRONG_VALUES = {
    "out of range": ("lora:\n  k: 0\n", "--lora.k: 0 is not allowed; allowed: 1 to 1024"),
    "null": ("seed: null\nlora:\n  k: 4\n", "--seed: null is not allowed; allowed: a whole number"),
    "not together": ("task:\n  type: glue\n", "--task.name: null is not allowed for --task.type glue"),
}


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_a_value_that_the_command_line_could_mend_is_refused_once_all_is_known(tmp_path: Path, case: str) -> None:
    content, message = WRONG_VALUES[case]
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        parse(["--config", str(path)])
    assert str(caught.value).startswith(message)
    with pytest.raises(UserError) as loaded:
        load_config(path)
    assert str(loaded.value) == f"{path}: {caught.value}"
    assert parse(["--config", str(path), "--lora.k", "8", "--seed", "1", "--task.name", "cola"]).config.seed == 1


def test_a_configuration_names_no_other_configuration(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 3\nconfig: glue_sst2.yaml\n")
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: config: is not allowed in a file of settings; leave it out"


@pytest.mark.parametrize("request_", ["show: x", "workspace: x", "score: e2e\nhyp: a\nref: b", "hyp: a"])
def test_a_configuration_holds_no_request_to_show_or_score(tmp_path: Path, request_: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"seed: 3\n{request_}\n")
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: holds a request to show or score, not the settings of a run"


def test_the_stage_in_a_file_is_the_command_line_s_affair(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 3\nstage: search\noverwrite: true\n")
    assert load_config(path) == RunConfig(name="c", seed=3)
    request = parse(["--config", str(path)])
    assert (request.stage, request.overwrite, request.config) == ("search", True, load_config(path))


@pytest.mark.parametrize(("value", "said"), [("'no'", "'no'"), ("maybe", "'maybe'"), ("3", "3"), ("null", "null")])
def test_overwrite_in_a_file_is_true_or_false(tmp_path: Path, value: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"seed: 3\noverwrite: {value}\n")
    for read in (lambda: parse(["--config", str(path)]), lambda: load_config(path)):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value) == f"{path}: overwrite: {said} is not allowed; allowed: true or false"
    path.write_text("seed: 3\noverwrite: false\n")
    assert not parse(["--config", str(path)]).overwrite
    assert parse(["--overwrite", "--config", str(path)]).overwrite


def test_a_file_of_a_key_without_a_value_gives_null(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed:\n")
    with pytest.raises(UserError, match=r"^--seed: null is not allowed; allowed: a whole number$"):
        parse(["--config", str(path)])
    path.write_text("name:\n")
    assert parse(["--config", str(path)]).config == load_config(path) == RunConfig(name="c")


def test_both_names_of_answer_from_are_refused_in_values(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 3\n")
    with pytest.raises(UserError, match=r"--answer\.from and --answer\.from_run are two names of one key"):
        load_config(path, {"answer.from": "a", "answer.from_run": "b"})
