"""A command of each kind of bad input ends with code 2 and one line that names what is wrong, and writes nothing.

The tests of the modules that refuse hold all other cases of each kind.
"""

from pathlib import Path

import pytest

from tests.helpers.bad_input import ROWS, Command, csv
from tests.helpers.run_folders import everything

pytestmark = pytest.mark.trains

TEXT = ("--task.type", "text", "--task.path", "{here}/d.csv")
RANKS = "runs/tiny/ranks.json"

# Case -> files to write, further arguments, and how the line begins; {here} stands for the test's folder.
REFUSED: dict[str, tuple[dict[str, str], tuple[str, ...], str]] = {
    "an unknown key": ({}, ("--search.stepz", "3"), "unknown key 'search.stepz'; did you mean 'search.steps'?"),
    "a word for a number": (
        {},
        ("--search.steps", "many"),
        "--search.steps: 'many' is not allowed; allowed: a whole number",
    ),
    "a value out of range": ({}, ("--lora.k", "0"), "--lora.k: 0 is not allowed; allowed: 1 to 1024"),
    "a name that leads out of the runs folder": ({}, ("--name", "../up"), "--name: '../up' is not allowed; allowed: "),
    "settings that cannot work together": (
        {},
        ("--hypergradient.type", "exact", "--model.attention", "sdpa"),
        "--model.attention: 'sdpa' has no second derivatives",
    ),
    "half a request to score": ({}, ("--score", "e2e"), "--score e2e: needs --hyp FILE"),
    "no such configuration": ({}, ("--config", "nosuch.yaml"), "--config: no file 'nosuch.yaml' here or in configs/"),
    "a folder as configuration": ({}, ("--config", "{here}"), "--config: no file '{here}' here or in configs/"),
    "a broken configuration": (
        {"bad.yaml": "search: {steps: 3"},
        ("--config", "{here}/bad.yaml"),
        "{here}/bad.yaml: not readable as YAML (",
    ),
    "a runs folder inside a file": (
        {"file": ""},
        ("--runs_folder", "{here}/file/runs"),
        "--runs_folder: cannot write {here}/file/runs/tiny (Not a directory)",
    ),
    "a device that is not there": ({}, ("--device", "mps"), "--device: 'mps' is not available here"),
    "no such model": (
        {},
        ("--model.name", "{here}/nothing"),
        "--model.name: cannot load '{here}/nothing' (",
    ),
    "a package that is not installed": (
        {},
        ("--model.name", "package:nosuchpackage/model"),
        "--model.name: no installed package 'nosuchpackage'",
    ),
    "an adapter for a model": (
        {"adapter/adapter_config.json": '{"base_model_name_or_path": "org/base"}'},
        ("--model.name", "{here}/adapter"),
        "--model.name: {here}/adapter holds an adapter, not a model; name its base model (it says: org/base)",
    ),
    "target modules of another model": (
        {},
        ("--lora.target_modules", "[q_proj]"),
        "--lora.target_modules: q_proj matches no module of",
    ),
    "a module to save of another model": (
        {},
        ("--lora.modules_to_save", "[poler]"),
        "--lora.modules_to_save: poler matches no module of",
    ),
    "k above a layer's side": (
        {},
        ("--lora.k", "33"),
        "--lora.k: 33 is not allowed for layer bert.encoder.layer.0.attention.self.query; allowed: 1 to 32",
    ),
    "a task that GLUE has not": (
        {},
        ("--task.type", "glue", "--task.name", "imdb"),
        "--task.name: 'imdb' is not allowed for --task.type glue; allowed: cola",
    ),
    "a split that the data has not": (
        {},
        ("--task.evaluation_split", "dev"),
        "--task.evaluation_split: 'dev' is not allowed for --task.type sample; allowed: validation, test",
    ),
    "a metric of another task": (
        {},
        ("--task.metrics", "[pearson]"),
        "--task.metrics: 'pearson' is not allowed for --task.type sample; allowed: accuracy",
    ),
    "too few rows for D_tr and D_val": (
        {},
        ("--task.train_rows", "1"),
        "--task.validation_share: 0.5 of 1 training rows",
    ),
    "no such table": ({}, TEXT, "--task.path: no file '{here}/d.csv'"),
    "a row without a text": (
        {"d.csv": csv([*ROWS, ("", "good")])},
        TEXT,
        "--task.path: {here}/d.csv, line 14: column 'text' has no text; fill it in or remove the row",
    ),
    "a label that training does not know": (
        {"d.csv": csv(ROWS), "dev.csv": csv([("a film", "good"), ("a room", "ugly")])},
        (*TEXT, "--task.validation_path", "{here}/dev.csv"),
        "--task.validation_path: {here}/dev.csv, line 3: label 'ugly' does not occur in the training rows; known: ",
    ),
    "a row of more tokens than the model takes": (
        {"d.csv": csv([*ROWS, ("a " * 90, "good")])},
        TEXT,
        "--task.max_length: 128 is not allowed, as a row has 92 tokens",
    ),
    "tags of another scheme": (
        {"d.conll": "a O\nb I-x\n"},
        ("--task.type", "tokens", "--task.path", "{here}/d.conll"),
        "--task.path: {here}/d.conll, line 2: tag 'I-x' after 'O': in IOB2 an entity begins with B-x",
    ),
    "no ranks": ({}, ("--stage", "retrain"), f"--stage retrain: {{here}}/{RANKS} does not exist"),
    "a broken rank record": (
        {RANKS: "{layers"},
        ("--stage", "retrain"),
        f"{{here}}/{RANKS}: not readable as JSON (",
    ),
    "a rank that is none": (
        {RANKS: '{"layers": [{"name": "bert.encoder.layer.0.attention.self.query", "rank": -1}]}'},
        ("--stage", "retrain"),
        f"{{here}}/{RANKS}: layers[0] (bert.encoder.layer.0.attention.self.query): rank is -1; allowed: ",
    ),
    "a rank of a layer that the model has not": (
        {RANKS: '{"layers": [{"name": "bert.encoder.layer.0.qery", "rank": 2}]}'},
        ("--stage", "retrain"),
        f"{{here}}/{RANKS}: the model has no layer 'bert.encoder.layer.0.qery'; the nearest is 'bert.encoder.layer.0.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_command_with_bad_input_ends_with_one_line_and_writes_nothing(
    command: Command, tmp_path: Path, case: str
) -> None:
    files, arguments, line = REFUSED[case]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    before = everything(tmp_path)
    code, lines = command(*arguments)
    assert code == 2, lines
    (said,) = lines
    assert said.startswith("error: " + line.replace("{here}", str(tmp_path)))
    assert everything(tmp_path) == before
