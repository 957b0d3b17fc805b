"""Settings that cannot work together are refused by name."""

import pytest

from autolora.configs.errors import UserError
from autolora.configs.parser import parse

PROBED = ("--study.axes", "{seed: [0]}", "--study.probe.steps", "[2,4]")

IMPOSSIBLE = {
    "sdpa has no second derivatives": (
        ("--hypergradient.type", "exact", "--model.attention", "sdpa"),
        r"^--model\.attention: 'sdpa' has no second derivatives.*exact needs; allowed: auto, eager",
    ),
    "a curve beyond k": (
        ("--answer.curve_ranks", "[1,16]"),
        r"^--answer\.curve_ranks: \[1, 16\] is not allowed with --lora\.k 8; allowed: ranks up to k",
    ),
    "a curve of budgets beyond k": (
        ("--answer.curve_budgets", "[1,16]"),
        r"^--answer\.curve_budgets: \[1\.0, 16\.0\] is not allowed with --lora\.k 8; allowed: average ranks up to k",
    ),
    "no budgets to choose from": (
        ("--answer.rule", "shares", "--answer.curve_budgets", "[]"),
        r"^--answer\.curve_budgets: \[\] is not allowed with --answer\.budget auto; allowed: one or more, or a budget",
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
    "a cut that leaves more than was trained": (
        ("--method", "para", "--lora.budget", "9"),
        r"^--lora\.budget: 9 is not allowed for --method para with --lora\.k 8, the rank .* an average rank up to k",
    ),
    "random ranks without room": (
        ("--method", "lora_random", "--lora.cap", "2"),
        r"^--lora\.cap: 2 is not allowed for --method lora_random with --lora\.r 4, the average rank; allowed: as",
    ),
    "a cut to uniform ranks above k": (
        ("--method", "para", "--lora.r", "16"),
        r"^--lora\.r: 16 is not allowed for --method para with --lora\.k 8",
    ),
    "parts with eva": (
        ("--method", "eva", "--lora.target_modules", "[c_attn.q]"),
        r"^--lora\.target_modules: c_attn\.q is not allowed for --method eva, which computes .*; allowed: c_attn",
    ),
    "a grid over all linear layers": (
        ("--method", "lora_grid", "--lora.target_modules", "all-linear"),
        r"^--lora\.target_modules: all-linear is not allowed for --method lora_grid, which tries .* names of modules$",
    ),
    "all linear layers and others": (
        ("--lora.target_modules", "[query,all-linear]"),
        r"^--lora\.target_modules: \['query', 'all-linear'\] is not .* at least one module name, or all-linear alone$",
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
    "a comparison without outer steps": (
        (*PROBED, "--hypergradient.type", "none"),
        r"^--study\.probe\.steps: \[2, 4\] is not allowed with --hypergradient\.type none, which takes no outer step",
    ),
    "a comparison without second derivatives": (
        (*PROBED, "--model.attention", "sdpa"),
        r"^--model\.attention: 'sdpa' has no second derivatives, which --study\.probe\.steps needs",
    ),
    "blocks computed again under second derivatives": (
        ("--model.gradient_checkpointing", "true", "--hypergradient.type", "cg"),
        r"^--model\.gradient_checkpointing: true is not allowed with --hypergradient\.type cg, .*; allowed: false, or",
    ),
    "blocks computed again in a comparison": (
        (*PROBED, "--model.gradient_checkpointing", "true"),
        r"^--model\.gradient_checkpointing: true is not allowed with --study\.probe\.steps, .*; allowed: false$",
    ),
    "text without a file": (("--task.type", "text"), r"^--task\.path: null is not allowed for --task\.type text"),
    "tokens without a file": (
        ("--task.type", "tokens"),
        r"^--task\.path: null .* --task\.type tokens; allowed: a \.conll.*, a folder .*, or a hub name$",
    ),
    "tokens from a pair of columns": (
        ("--task.type", "tokens", "--task.path", "x", "--task.text_columns", "[a,b]"),
        r"^--task\.text_columns: \['a', 'b'\] .* --task\.type tokens; .* the one column with the words$",
    ),
    "tokens of a number": (
        ("--task.type", "tokens", "--task.path", "x", "--task.kind", "regression"),
        r"^--task\.kind: 'regression' is not allowed for --task\.type tokens; allowed: classification$",
    ),
    "a budget above k": (
        ("--answer.rule", "shares", "--answer.budget", "9"),
        r"^--answer\.budget: 9 is not allowed with --lora\.k 8; allowed: an average rank up to k, or auto$",
    ),
    "shares of no rows": (
        ("--answer.rule", "shares", "--answer.rows", "0"),
        r"^--answer\.rows: 0 is not allowed for --answer\.rule shares, which measures on D_val; allowed: 8 or more$",
    ),
    "the smallest budget by size of no rows": (
        ("--answer.rule", "size", "--answer.rows", "0"),
        r"^--answer\.rows: 0 is not allowed for --answer\.rule size",
    ),
    "an outer step that never comes": (
        ("--search.steps", "5", "--search.unroll_steps", "6"),
        r"^--search\.unroll_steps: 6 is not allowed with --search\.steps 5, as no outer step .*; allowed: 1 to 5$",
    ),
    "ranks that settle before the first outer step": (
        (
            "--answer.rule",
            "threshold",
            "--search.check_every",
            "10",
            "--search.patience",
            "2",
            "--search.unroll_steps",
            "31",
        ),
        r"^--search\.patience: 2 is not allowed with .* would stop at step 30, before .*; allowed: 0, or 3 or more$",
    ),
    "ranks of nobody shuffled": (
        ("--method", "lora_shuffled"),
        r"^--lora\.ranks_from: null is not allowed for --method",
    ),
    "a grid of too many runs": (
        ("--method", "lora_grid", "--lora.target_modules", "[a,b,c,d]"),
        r"^--lora\.grid: 4 ranks for each of 4 target modules make 256 runs; allowed: up to 100$",
    ),
    "searched weights without a search": (
        ("--method", "para", "--retrain.init", "search"),
        r"^--retrain\.init: 'search' is not allowed for --method para; allowed: scratch$",
    ),
    "searched weights of no run": (
        ("--method", "lora", "--retrain.init", "search"),
        r"^--retrain\.init_from: null is not allowed for --method lora with --retrain\.init search; allowed: the "
        r"folder of a run whose search is finished$",
    ),
    "adalora in too few steps": (
        ("--method", "adalora", "--retrain.max_steps", "9"),
        r"^--retrain\.max_steps: 9 is not allowed for --method adalora; allowed: 10 or more$",
    ),
    "padded ranks of a method without LoRA": (
        ("--method", "full", "--export.padded", "true"),
        r"^--export\.padded: true is not allowed for --method full, which has no LoRA$",
    ),
    "bottlenecks merged": (
        ("--method", "adapter", "--export.merged", "true"),
        r"^--export\.merged: true is not allowed for --method adapter: bottlenecks cannot be merged$",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_work_together_is_refused(case: str) -> None:
    arguments, message = IMPOSSIBLE[case]
    with pytest.raises(UserError, match=message):
        parse(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--search.steps", "6", "--search.unroll_steps", "6"),
        ("--search.check_every", "10", "--search.patience", "2", "--search.unroll_steps", "30"),
        ("--search.check_every", "10", "--search.patience", "3", "--search.unroll_steps", "31"),
        ("--search.check_every", "10", "--search.patience", "0", "--search.unroll_steps", "31"),
        ("--search.steps", "5", "--search.unroll_steps", "6", "--method", "lora"),
        ("--search.steps", "5", "--search.unroll_steps", "6", "--hypergradient.type", "none"),
    ],
)
def test_an_outer_step_that_comes_late_is_taken(arguments: tuple[str, ...]) -> None:
    assert parse(arguments).config


@pytest.mark.parametrize("fast", [("--model.attention", "sdpa"), ("--model.gradient_checkpointing", "true")])
@pytest.mark.parametrize("other", [("--method", "lora"), ("--answer.from", "runs/a")])
def test_what_takes_no_second_derivatives_is_not_refused_for_them(
    fast: tuple[str, ...], other: tuple[str, ...]
) -> None:
    """Neither another method nor a run that copies a search reads hypergradient.type."""
    assert parse(["--hypergradient.type", "exact", *fast, *other]).config


def test_a_bad_value_is_named_before_a_bad_combination() -> None:
    with pytest.raises(UserError, match=r"^--lora\.k: 0 is not allowed; allowed: 1 to 1024$"):
        parse(["--task.type", "glue", "--lora.k", "0"])


@pytest.mark.parametrize(
    "study",
    [
        ("--answer.curve_ranks", "[1,4,16]", "--study.axes", "{lora.k: [16, 32]}"),
        ("--answer.rows", "0", "--study.axes", "{answer.rule: [threshold]}"),
    ],
)
def test_values_that_no_cell_of_a_study_has_are_not_refused(study: tuple[str, ...]) -> None:
    """A key was refused beside the value of another one that every cell replaces."""
    assert parse([*study]).config.study.axes or parse([*study]).config.study.variants
    with pytest.raises(UserError, match=r"^--"):
        parse([*study[:2]])
