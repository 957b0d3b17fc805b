"""Each range refuses a bad value by the name of its key, and takes the nearest good one."""

import re
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.errors import UserError
from configs.files import load_config
from configs.keys import known_keys, split_range
from configs.parser import parse
from configs.schema import RunConfig
from configs.values import with_values

# Key -> (bad values, good values at the edge). A key that is not here is tried with those of a key of the same range.
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "name": (["../up", "a/b", ".hidden", "", "a b", "a\n", "x" * 101], ["x" * 100, "0.a_B-c"]),
    "seed": ([-1, 2**31], [0, 2**31 - 1]),
    "task.validation_share": ([0, 1, -0.1, nan], [0.01, 0.99]),
    "task.max_length": ([3], [4]),
    "task.train_rows": ([0, -5], [1, None]),
    "task.evaluation_rows": ([0, -5], [1, None]),
    "task.label_smoothing": ([1.0, -0.1, nan], [0, 0.99]),
    "task.holdout_share": ([0, 1.0], [0.5]),
    "task.text_columns": ([[], ["a", "b", "c"], [""]], [["a"], ["a", "b"], None]),
    "task.metrics": ([[]], [["accuracy"], None]),
    "lora.target_modules": ([[], [""]], [["query"]]),
    "lora.modules_to_save": ([[""]], [[], ["pooler"], None]),
    "lora.k": ([0, 1025], [1, 1024]),
    "lora.lora_alpha": ([0, -1, inf, nan], [1e-3]),
    "lora.dropout": ([1.0, -0.1, nan], [0, 0.99]),
    "lora.r": ([0, 1025], [1, 1024]),
    "lora.grid": ([[4], [0, 4], [4, 1025]], [[1, 1024]]),
    "adapter.bottleneck": ([0], [1]),
    "search.steps": ([0], [1]),
    "search.learning_rate": ([0, inf], [1e-9]),
    "search.selection_learning_rate": ([0, -1], [1e-9]),
    "search.batch_size": ([0], [1]),
    "search.weight_decay": ([-0.1, nan], [0]),
    "search.warmup_ratio": ([1, -0.1], [0]),
    "search.gradient_clipping": ([-1], [0]),
    "search.unroll_steps": ([0], [1]),
    "search.budget": ([0, -1, inf], [0.1]),
    "search.check_every": ([0], [1]),
    "search.patience": ([-1], [0, 10**400]),
    "search.max_bad_steps": ([-1], [0]),
    "search.log_every": ([0], [1]),
    "search.checkpoint_every": ([0], [1]),
    "hypergradient.eta": ([-1, inf, nan], [0, 0.5, "lr", "betty"]),
    "hypergradient.radius": ([0, inf], [1e-4]),
    "hypergradient.terms": ([-1], [0]),
    "retrain.epochs": ([0, inf], [0.1]),
    "retrain.max_steps": ([0], [1, None]),
    "retrain.learning_rate": ([0], [1e-9]),
    "retrain.learning_rates": ([[0.1, 0], [-1], [inf]], [[], [1e-9]]),
    "retrain.batch_size": ([0], [1]),
    "retrain.gradient_accumulation": ([0], [1]),
    "retrain.weight_decay": ([-1], [0]),
    "retrain.warmup_ratio": ([1, -1], [0]),
    "retrain.gradient_clipping": ([-1], [0]),
    "retrain.eval_batch_size": ([0], [1]),
    "retrain.checkpoint_every": ([0], [1]),
    "study.probe.steps": ([[0], [5, -1]], [[]]),
    "study.probe.etas": ([[], [-1], ["lr", inf]], [[0], ["lr", 0.1, "betty"]]),
    "study.probe.timed_steps": ([0], [1]),
    "study.ray.cpus": ([0, -1, inf], [0.5, 2]),
    "study.ray.gpus": ([-1, 1.5, inf, nan], [0, 0.5, 1, 2, None]),
    "study.ray.retries": ([-1], [0]),
    "decode.num_beams": ([0], [1]),
    "decode.length_penalty": ([inf, nan], [-1, 0]),
    "decode.no_repeat_ngram_size": ([-1], [0]),
    "decode.max_new_tokens": ([0], [1]),
    "decode.batch_size": ([0], [1]),
}


RANGES = {key: limits for key, kind in known_keys().items() if (limits := split_range(kind)[1])}
OF_RANGE = {RANGES[key]: values for key, values in VALUES.items()}


@pytest.mark.parametrize("key", RANGES)
def test_a_range_refuses_the_bad_and_takes_the_good(key: str) -> None:
    bad, good = VALUES.get(key) or OF_RANGE[RANGES[key]]  # a new range needs a row in the table
    words = re.escape(RANGES[key].words)
    for value in bad:
        with pytest.raises(UserError, match=rf"^--{key}: .* is not allowed; allowed: {words}$") as caught:
            with_values(RunConfig(name="a"), {key: value})
        assert "\n" not in str(caught.value)
    for value in good:
        with_values(RunConfig(name="a"), {key: value})


LINES = {
    ("lora.k", "0"): "--lora.k: 0 is not allowed; allowed: 1 to 1024",
    ("lora.grid", "[4]"): "--lora.grid: [4] is not allowed; allowed: two or more ranks, each from 1 to 1024",
    ("search.learning_rate", ".inf"): "--search.learning_rate: inf is not allowed; allowed: a number above 0",
    ("task.train_rows", "-1"): "--task.train_rows: -1 is not allowed; allowed: null, or 1 or more",
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
