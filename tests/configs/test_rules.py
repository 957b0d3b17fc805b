"""Each rule refuses a bad value by name, and takes the nearest good one."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from configs import rules
from configs.cli import parse
from configs.errors import UserError
from configs.keys import known_keys
from configs.schema import HypergradientConfig
from problems.hypergradients import HYPERGRADIENTS

# Key -> (bad values, good values at the edge).
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "name": (["../up", "a/b", ".hidden", "", "a b", "x" * 101], ["x" * 100, "0.a_B-c"]),
    "seed": ([-1, 2**31], [0, 2**31 - 1]),
    "task.validation_share": ([0, 1, -0.1, "nan"], [0.01, 0.99]),
    "task.max_length": ([3], [4]),
    "task.train_rows": ([0, -5], [1, "null"]),
    "task.evaluation_rows": ([0, -5], [1, "null"]),
    "task.label_smoothing": ([1.0, -0.1, "nan"], [0, 0.99]),
    "task.holdout_share": ([0, 1.0], [0.5]),
    "task.text_columns": (["[]", "[a,b,c]", "['']"], ["[a]", "[a,b]", "null"]),
    "task.metrics": (["[]"], ["[accuracy]", "null"]),
    "lora.target_modules": (["[]", "['']"], ["[query]"]),
    "lora.modules_to_save": (["['']"], ["[]", "[pooler]", "null"]),
    "lora.k": ([0, 1025], [1, 1024]),
    "lora.lora_alpha": ([0, -1, "inf", "nan"], [1e-3]),
    "lora.dropout": ([1.0, -0.1, "nan"], [0, 0.99]),
    "lora.r": ([0, 1025], [1, 1024]),
    "lora.grid": (["[4]", "[0,4]", "[4,1025]"], ["[1,1024]"]),
    "adapter.bottleneck": ([0], [1]),
    "search.steps": ([0], [1]),
    "search.learning_rate": ([0, "inf"], [1e-9]),
    "search.selection_learning_rate": ([0, -1], [1e-9]),
    "search.batch_size": ([0], [1]),
    "search.weight_decay": ([-0.1, "nan"], [0]),
    "search.warmup_ratio": ([1, -0.1], [0]),
    "search.gradient_clipping": ([-1], [0]),
    "search.unroll_steps": ([0], [1]),
    "search.budget": ([0, -1, "inf"], [0.1]),
    "search.check_every": ([0], [1]),
    "search.patience": ([-1], [0]),
    "search.max_bad_steps": ([-1], [0]),
    "search.log_every": ([0], [1]),
    "search.checkpoint_every": ([0], [1]),
    "hypergradient.eta": ([-1, "inf", "nan"], [0, 0.5, "lr", "betty"]),
    "hypergradient.radius": ([0, "inf"], [1e-4]),
    "hypergradient.terms": ([-1], [0]),
    "retrain.epochs": ([0, "inf"], [0.1]),
    "retrain.max_steps": ([0], [1, "null"]),
    "retrain.learning_rate": ([0], [1e-9]),
    "retrain.learning_rates": (["[0.1,0]", "[-1]"], ["[]", "[1e-9]"]),
    "retrain.batch_size": ([0], [1]),
    "retrain.gradient_accumulation": ([0], [1]),
    "retrain.weight_decay": ([-1], [0]),
    "retrain.warmup_ratio": ([1, -1], [0]),
    "retrain.gradient_clipping": ([-1], [0]),
    "retrain.eval_batch_size": ([0], [1]),
    "retrain.checkpoint_every": ([0], [1]),
    "study.probe.steps": (["[0]", "[5,-1]"], ["[]"]),
    "study.probe.etas": (["[]", "[-1]", "[lr,.inf]"], ["[0]", "[lr,0.1,betty]"]),
    "study.probe.timed_steps": ([0], [1]),
    "study.ray.cpus": ([0, -1, "inf"], [0.5, 2]),
    "study.ray.gpus": ([-1, 1.5, "inf", "nan"], [0, 0.5, 1, 2, "null"]),
    "study.ray.retries": ([-1, "inf"], [0]),
    "decode.num_beams": ([0], [1]),
    "decode.length_penalty": (["inf", "nan"], [-1, 0]),
    "decode.no_repeat_ngram_size": ([-1], [0]),
    "decode.max_new_tokens": ([0], [1]),
    "decode.batch_size": ([0], [1]),
}


def test_the_table_covers_every_rule_and_every_rule_is_of_a_key() -> None:
    assert set(VALUES) == set(rules.RULES) <= set(known_keys())


@pytest.mark.parametrize("key", VALUES)
def test_a_rule_refuses_the_bad_and_takes_the_good(key: str) -> None:
    bad, good = VALUES[key]
    for value in bad:
        with pytest.raises(UserError, match=rf"^--{key}: .* is not allowed; allowed: .") as caught:
            parse([f"--{key}={value}"])
        assert "\n" not in str(caught.value)
    for value in good:
        parse([f"--{key}={value}"])


PROBED = ("--study.axes", "{seed: [0]}", "--study.probe.steps", "[2,4]")

IMPOSSIBLE = {
    "sdpa has no second derivatives": (
        ("--hypergradient.type", "exact", "--model.attention", "sdpa"),
        r"^--model\.attention: 'sdpa' has no second derivatives.*exact needs; allowed: auto, eager",
    ),
    "glue without a task": (("--task.type", "glue"), r"^--task\.name: null is not allowed for --task\.type glue"),
    "generation without a file": (
        ("--task.type", "generation"),
        r"^--task\.path: null is not allowed for --task\.type generation unless",
    ),
    "generation from a pair of columns": (
        ("--task.type", "generation", "--task.name", "e2e", "--task.text_columns", "[a,b]"),
        r"^--task\.text_columns: .* is not allowed for --task\.type generation",
    ),
    "generation of a number": (
        ("--task.type", "generation", "--task.name", "e2e", "--task.kind", "regression"),
        r"^--task\.kind: 'regression' is not allowed for --task\.type generation",
    ),
    "4 bits of a whole model": (
        ("--model.load_in_4bit", "true", "--method", "full"),
        r"^--model\.load_in_4bit: true is not allowed for --method full",
    ),
    "4 bits merged": (
        ("--model.load_in_4bit", "true", "--export.merged", "true"),
        r"^--export\.merged: true is not allowed with --model\.load_in_4bit true",
    ),
    "4 bits of a GGUF file": (
        ("--model.load_in_4bit", "true", "--model.name", "x.gguf"),
        r"^--model\.load_in_4bit: true is not allowed for a \.gguf file",
    ),
    "4 bits on a processor": (
        ("--model.load_in_4bit", "true", "--device", "cpu"),
        r"^--device: 'cpu' is not allowed with --model\.load_in_4bit true",
    ),
    "parts with adalora": (
        ("--method", "adalora", "--lora.target_modules", "[c_attn.q,c_proj,h.0.attn.c_attn.v]"),
        r"^--lora\.target_modules: c_attn\.q, h\.0\.attn\.c_attn\.v is not allowed for --method adalora",
    ),
    "a comparison without a study": (
        ("--study.probe.steps", "[1]"),
        r"^--study\.probe\.steps: \[1\] is not allowed without a study; allowed: \[\], or with --study\.axes",
    ),
    "a comparison of a method that does not search": (
        (*PROBED, "--method", "lora"),
        r"^--study\.probe\.steps: \[2, 4\] is not allowed for --method lora",
    ),
    "a comparison after the search": (
        (*PROBED, "--search.steps", "3"),
        r"^--study\.probe\.steps: \[2, 4\] is not allowed with --search\.steps 3; allowed: 1 to 3$",
    ),
    "a comparison between outer steps": (
        (*PROBED, "--search.unroll_steps", "4"),
        r"^--study\.probe\.steps: \[2, 4\] is not allowed with --search\.unroll_steps 4; allowed: multiples",
    ),
    "a comparison without second derivatives": (
        (*PROBED, "--model.attention", "sdpa"),
        r"^--model\.attention: 'sdpa' has no second derivatives, which --study\.probe\.steps needs",
    ),
    "text without a file": (("--task.type", "text"), r"^--task\.path: null is not allowed for --task\.type text"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_work_together_is_refused(case: str) -> None:
    arguments, message = IMPOSSIBLE[case]
    with pytest.raises(UserError, match=message):
        parse(arguments)


def test_second_order_methods_and_choices_are_those_of_the_registry() -> None:
    assert {name for name, method in HYPERGRADIENTS.items() if method.second_order} == rules.SECOND_ORDER
    choices = typing.get_args(typing.get_type_hints(HypergradientConfig)["type"])
    assert set(choices) == set(HYPERGRADIENTS)
