"""Each range refuses a bad value by the name of its key, and takes the nearest good one."""

import dataclasses
import re
from functools import reduce
from math import inf, nan
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.configs.keys import SPELLED, known_keys, split_range
from autolora.configs.parser import parse
from autolora.configs.rules import check
from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values

DEEP = reduce(lambda inner, _: [inner], range(40), [])

# Key -> (bad values, good values at the edge). A key that is not here is tried with those of a key of the same range.
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "name": (["../up", "..", "/tmp/x", "a/b", ".hidden", "", "a b", "a\n", "x" * 101], ["x" * 100, "0.a_B-c"]),
    "runs_folder": (["x" * 256, "é" * 128, "a/" * 1501, "a\0b"], ["x" * 255, "é" * 127, "/a/b"]),
    "task.path": (["a/" + "x" * 256], ["a/b.csv", None]),
    "seed": ([-1, 2**31], [0, 2**31 - 1]),
    "task.validation_share": ([0, 1, -0.1, nan], [0.01, 0.99]),
    "task.max_length": ([3, 10**6 + 1], [4, 10**6]),
    "task.train_rows": ([0, -5, 10**9 + 1], [1, 10**9, None]),
    "task.evaluation_rows": ([0, -5, 10**9 + 1], [1, 10**9, None]),
    "task.label_smoothing": ([1.0, -0.1, nan], [0, 0.99, None]),
    "task.samples": ([-1, 10**9 + 1], [0, 10**9]),
    "task.holdout_share": ([0, 1.0], [0.5]),
    "task.text_columns": ([[], ["a", "b", "c"], [""]], [["a"], ["a", "b"], None]),
    "task.metrics": ([[]], [["accuracy"], None]),
    "lora.target_modules": ([[], [""]], [["query"]]),
    "lora.modules_to_save": ([[""]], [[], ["pooler"], None]),
    "lora.k": ([0, 1025], [1, 1024]),
    "lora.lora_alpha": ([0, -1, 1e6 + 1, inf, nan], [1e-3, 1e6]),
    "lora.dropout": ([1.0, -0.1, nan], [0, 0.99]),
    "lora.r": ([0, 1025], [1, 1024]),
    "lora.cap": ([0, 1025], [1, 1024, None]),
    "lora.grid": ([[4], [0, 4], [4, 1025]], [[1, 1024]]),
    "lora.budget": ([0, -1, inf, nan], [0.1, 1e6, None]),
    "lora.trials": ([0, 10**9 + 1], [1, 10**9]),
    "lora.rho": ([0.99, 1000.1, -1, nan], [1, 1000]),
    "adapter.bottleneck": ([0, 16385], [1, 16384]),
    "search.steps": ([0, 10**9 + 1], [1, 10**9]),
    "search.learning_rate": ([0, inf], [1e-9]),
    "search.selection_learning_rate": ([0, -1], [1e-9]),
    "search.batch_size": ([0], [1]),
    "search.weight_decay": ([-0.1, 1e6 + 1, nan], [0, 1e6]),
    "search.warmup_ratio": ([1, -0.1], [0]),
    "search.gradient_clipping": ([-1], [0]),
    "search.unroll_steps": ([0], [1]),
    "retrain.init": (["a/" + "x" * 256], ["scratch"]),
    "answer.budget": ([0, -1, inf, nan, "all"], [0.1, "auto"]),
    "answer.tolerance": ([1.0, -0.1, nan], [0, 0.99]),
    "answer.curve_ranks": ([[0, 4], [4, 1025]], [[], [1, 8]]),
    "answer.curve_budgets": ([[0], [-1.0], [1e7]], [[0.25], [2, 8]]),
    "answer.rows": ([-1, 10**9 + 1], [8, 10**9]),
    "search.check_every": ([0], [1]),
    "search.patience": ([-1, 10**9 + 1], [0, 10**9]),
    "search.max_bad_steps": ([-1], [0]),
    "search.log_every": ([0], [1]),
    "search.checkpoint_every": ([0], [1]),
    "hypergradient.type": (["newton", "mine.py", "mine.py:", "Mine"], ["darts", "none", "a/mine.py:Mine"]),
    "hypergradient.eta": ([-1, 1e6 + 1, inf, nan], [0, 0.5, 1e6, "lr", "betty"]),
    "hypergradient.radius": ([0, inf], [1e-4]),
    "hypergradient.terms": ([-1], [0]),
    "hypergradient.options": (
        [{"a b": 1}, {"a": {"b": 1}}, {"a": nan}],
        [{}, {"a": [0.1, None], "b": "c", "d": True}],
    ),
    "retrain.epochs": ([0, inf], [0.1]),
    "retrain.max_steps": ([0], [1, None]),
    "retrain.learning_rate": ([0], [1e-9]),
    "retrain.learning_rates": ([[0.1, 0], [-1], [1e6 + 1], [inf]], [[], [1e-9, 1e6]]),
    "retrain.batch_size": ([0], [1]),
    "retrain.gradient_accumulation": ([0], [1]),
    "retrain.weight_decay": ([-1], [0]),
    "retrain.warmup_ratio": ([1, -1], [0]),
    "retrain.gradient_clipping": ([-1], [0]),
    "retrain.eval_batch_size": ([0], [1]),
    "retrain.checkpoint_every": ([0], [1]),
    "task.seed": ([-1, 2**31], [0, 2**31 - 1, None]),
    "study.axes": ([{"seed": DEEP}], [{}, {"seed": [0]}]),
    "study.variants": ([{"a": {"seed": DEEP}}, {"": {}}], [{}, {"a": {"seed": 1}}]),
    "study.exclude": ([[{}], [{"seed": DEEP}]], [[], [{"seed": [0, 1], "variant": "a"}]]),
    "study.where": ([{"seed": {"0": {"lora.k": DEEP}}}], [{}]),
    "study.probe.steps": ([[0], [5, -1], [10**9 + 1]], [[]]),
    "study.probe.etas": ([[], [-1], ["lr", inf], [1e6 + 1]], [[0], ["lr", 0.1, "betty", 1e6]]),
    "study.probe.timed_steps": ([0], [1]),
    "study.ray.cpus": ([0, -1, inf], [0.5, 2]),
    "study.ray.gpus": ([-1, 1.5, 1e6 + 1, inf, nan], [0, 0.5, 1, 2, 1e6, None]),
    "study.ray.retries": ([-1], [0]),
    "decode.num_beams": ([0, 16385], [1, 16384, None]),
    "decode.length_penalty": ([-10.1, 10.1, inf, nan], [-10, -1, 0, 10, None]),
    "decode.no_repeat_ngram_size": ([-1], [0, None]),
    "decode.max_new_tokens": ([0, 10**6 + 1], [1, 10**6, None]),
    "decode.batch_size": ([0], [1]),
}


RANGES = {key: limits for key, kind in known_keys().items() if (limits := split_range(kind)[1])}
OF_RANGE = {RANGES[key]: values for key, values in VALUES.items()}


def written(field: str) -> str:
    """A key as the user writes it."""
    return {field: key for key, field in SPELLED.items()}.get(field, field)


@pytest.mark.parametrize("key", RANGES)
def test_a_range_refuses_the_bad_and_takes_the_good(key: str) -> None:
    bad, good = VALUES.get(key) or OF_RANGE[RANGES[key]]  # a new range needs a row in the table
    words = re.escape(RANGES[key].words)
    calls = [lambda value=value: check(with_value(key, value)) for value in bad]
    # Through the parser, which takes a hundred times as long, one of each.
    for call in (*calls, lambda: with_values(RunConfig(name="a"), {key: bad[0]})):
        with pytest.raises(UserError, match=rf"^--{written(key)}: .* is not allowed; allowed: {words}$") as caught:
            call()
        assert "\n" not in str(caught.value)
    for value in good:
        check(with_value(key, value))
    with_values(RunConfig(name="a"), {key: good[0]})


def numeric(kind: Any) -> bool:
    return kind in (int, float) or any(map(numeric, get_args(kind)))


NUMERIC = [key for key, kind in known_keys().items() if numeric(split_range(kind)[0])]
EXTREMES = ["1e30", "-1e30", "1e400", "1" + "0" * 30, "1" + "0" * 400, "1" + "0" * 5000]


def with_value(key: str, value: Any) -> RunConfig:
    """The defaults with one value, which nothing has looked at."""

    def put(section: Any, names: list[str]) -> Any:
        inner = put(getattr(section, names[0]), names[1:]) if len(names) > 1 else value
        return dataclasses.replace(section, **{names[0]: inner})

    found: RunConfig = put(RunConfig(name="a"), key.split("."))
    return found


TEXTS = [key for key, kind in known_keys().items() if split_range(kind)[0] in (str, str | None)]


@pytest.mark.parametrize("key", TEXTS)
def test_no_key_takes_an_empty_text(key: str) -> None:
    """An unset variable of a shell gives one; taken for null, it would be ignored without a word."""
    for call in (lambda: parse([f"--{key}="]), lambda: check(with_value(key, ""))):
        with pytest.raises(UserError, match=rf"^--{written(key)}: '' is not allowed; allowed: "):
            call()


@pytest.mark.parametrize("key", NUMERIC)
def test_no_number_takes_what_nothing_could_be_computed_with(key: str) -> None:
    is_list = get_origin(split_range(known_keys()[key])[0]) is list
    calls = [lambda text=text: parse([f"--{key}={f'[{text},{text}]' if is_list else text}"]) for text in EXTREMES[4:5]]
    for number in (1e30, -1e30, inf, 10**30, -(10**30), 10**400):
        calls.append(lambda number=number: check(with_value(key, [number, number] if is_list else number)))
    for call in calls:
        with pytest.raises(UserError, match=rf"^--{key}: .* is not allowed; allowed: ") as caught:
            call()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", EXTREMES, ids=lambda value: f"{value[:6]} of {len(value)}")
def test_nor_does_one_in_a_file(tmp_path: Path, value: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"retrain:\n  epochs: {value}\n")
    for call in (lambda: parse(["--config", str(path)]), lambda: load_config(path)):
        with pytest.raises(UserError) as caught:
            call()
        assert "retrain.epochs" in str(caught.value) or "Exceeds the limit" in str(caught.value)
        assert len(str(caught.value).removeprefix(str(tmp_path))) < 300


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("study.axes", "{3: [0]}"),
        ("study.axes", "{on: [0]}"),
        ("study.variants", "{a: {null: 1}}"),
        ("study.where", "{3: {0: {seed: 1}}}"),
        ("study.where", "{seed: {0: {3: 1}}}"),
    ],
)
def test_a_key_in_a_study_is_a_text(key: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"^--{key}: .* is not allowed.*; allowed: .*keys with values"):
        parse([f"--{key}", value])


@pytest.mark.parametrize(("name", "read"), [("no", "false"), ("yes", "true"), ("null", "null")])
def test_a_name_of_a_variant_that_yaml_reads_as_another_type_is_refused(name: str, read: str) -> None:
    """The variants had been called false and true in folders and tables."""
    message = (
        rf"^--study\.variants: .* \(YAML reads an unquoted no, .* here {read}; quote it: .*\); allowed: names that"
    )
    with pytest.raises(UserError, match=message):
        parse(["--study.variants", f"{{a: {{}}, {name}: {{lora.k: 2}}}}"])
    quoted = parse(["--study.variants", f"{{a: {{}}, '{name}': {{lora.k: 2}}}}"]).config.study.variants
    assert list(quoted) == ["a", name]


def test_names_of_variants_and_places_may_look_like_numbers() -> None:
    study = parse(["--study.variants", "{1: {seed: 1}}", "--study.axes", "{lora.k: [4]}"]).config.study
    assert study.variants == {1: {"seed": 1}}
    parse(["--study.axes", "{seed: [0]}", "--study.where", "{seed: {0: {lora.k: 3}}}"])


def test_a_deep_value_of_a_study_is_refused() -> None:
    for depth in (100, 400, 900):
        with pytest.raises(UserError, match=r"^--study\.axes: .*; allowed: keys with values|recursion") as caught:
            parse(["--study.axes", f"{{seed: {'[' * depth}{']' * depth}}}"])
        assert len(str(caught.value)) < 300
    assert parse(["--study.axes", "{lora.target_modules: [[query], [key]]}"])


LINES = {
    ("lora.k", "0"): "--lora.k: 0 is not allowed; allowed: 1 to 1024",
    ("lora.grid", "[4]"): "--lora.grid: [4] is not allowed; allowed: two or more ranks, each from 1 to 1024",
    (
        "search.learning_rate",
        ".inf",
    ): "--search.learning_rate: inf is not allowed; allowed: a number above 0, at most 1,000,000",
    ("task.train_rows", "-1"): "--task.train_rows: -1 is not allowed; allowed: null, or 1 to 1,000,000,000",
}


@pytest.mark.parametrize(("key", "value"), LINES)
def test_command_line_files_and_programs_get_the_same_line(tmp_path: Path, key: str, value: str) -> None:
    section, field = key.split(".")
    path = tmp_path / "c.yaml"
    path.write_text(f"{section}:\n  {field}: {value}\n")
    found = []
    for call in (
        lambda: parse([f"--{key}", value]),
        lambda: parse(["--config", str(path)]),
        lambda: with_values(RunConfig(name="a"), {key: yaml.safe_load(value)}),
        lambda: load_config(path),
    ):
        with pytest.raises(UserError) as caught:
            call()
        found.append(str(caught.value))
    line = LINES[key, value]
    assert found == [line, line, line, f"{path}: {line}"]


def test_edges_of_answer_rows() -> None:
    for bad in (1, 7):
        with pytest.raises(UserError, match=r"^--answer\.rows: "):
            check(with_value("answer.rows", bad))
    check(with_value("answer.rows", 8))
    check(with_values(RunConfig(name="a"), {"answer.rule": "threshold", "answer.rows": 0}))
