"""What the types of the schema cannot say: ranges and impossible combinations, checked before a model is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import reduce
from typing import Any

from configs.errors import UserError
from configs.launch import processes_started
from configs.schema import RunConfig

_Rule = tuple[Callable[[Any], bool], str]

_positive: _Rule = (lambda x: math.isfinite(x) and x > 0, "a number above 0")
_not_negative: _Rule = (lambda x: math.isfinite(x) and x >= 0, "0 or more")
_share: _Rule = (lambda x: 0 < x < 1, "a number between 0 and 1")
_share_or_none: _Rule = (lambda x: 0 <= x < 1, "from 0 to below 1")
_at_least_one: _Rule = (lambda x: x >= 1, "1 or more")
_null_or_one: _Rule = (lambda x: x is None or x >= 1, "null, or 1 or more")

# Their names are known here so that a wrong attention kernel is refused before torch is loaded; a test holds this set
# against the registry.
SECOND_ORDER = {"exact", "neumann", "cg"}

SEARCHING = {"autolora", "lora_grid"}
MOST_GRID_RUNS = 100
WITHOUT_LORA = {"adapter", "full"}
# The parts of GPT-2's c_attn, in the order of its outputs, and the names by which each can have its own LoRA rank.
FUSED = ("q", "k", "v")
PART = re.compile(r"(?:.*\.)?c_attn\.[qkv]")
# AdaLoRA's three phases (warm-up, allocation, training at the final ranks) need some steps each.
ADALORA_LEAST_STEPS = 10

# (key, value) -> why a value that a reader of Betty's documentation would expect is not offered.
REFUSED = {
    ("hypergradient.type", "reinforce"): "Betty 0.2.1 leaves it unfinished: it fails when called and computes nothing",
    ("strategy", "zero"): "Betty's ZeRO splits the optimiser's state, which for LoRA weights is a few MB",
    ("strategy", "fsdp"): "Betty's FSDP splits the parameters, which the gates and finite differences need whole",
}

RULES: dict[str, _Rule] = {
    # The name becomes one folder inside runs_folder and nothing else.
    "name": (
        lambda x: isinstance(x, str) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", x)),
        "letters, digits, '.', '_' and '-', starting with a letter or digit, at most 100",
    ),
    "seed": (lambda x: 0 <= x < 2**31, "0 to 2147483647"),
    "task.validation_share": _share,
    "task.max_length": (lambda x: x >= 4, "4 tokens or more"),
    "task.train_rows": _null_or_one,
    "task.evaluation_rows": _null_or_one,
    "task.label_smoothing": _share_or_none,
    "task.holdout_share": _share,
    "task.text_columns": (lambda x: x is None or (len(x) in (1, 2) and all(x)), "null, or one or two column names"),
    "task.metrics": (lambda x: x is None or len(x) > 0, "null, or at least one metric"),
    "lora.target_modules": (lambda x: len(x) > 0 and all(x), "at least one module name"),
    "lora.modules_to_save": (lambda x: x is None or all(x), "null, or names of modules"),
    "lora.k": (lambda x: 1 <= x <= 1024, "1 to 1024"),
    "lora.lora_alpha": _positive,
    "lora.dropout": _share_or_none,
    "lora.r": (lambda x: 1 <= x <= 1024, "1 to 1024"),
    "lora.grid": (lambda x: len(x) > 1 and all(1 <= r <= 1024 for r in x), "two or more ranks, each from 1 to 1024"),
    "adapter.bottleneck": _at_least_one,
    "search.steps": _at_least_one,
    "search.learning_rate": _positive,
    "search.selection_learning_rate": _positive,
    "search.batch_size": _at_least_one,
    "search.weight_decay": _not_negative,
    "search.warmup_ratio": _share_or_none,
    "search.gradient_clipping": _not_negative,
    "search.unroll_steps": _at_least_one,
    "search.budget": _positive,
    "search.check_every": _at_least_one,
    "search.patience": _not_negative,
    "search.max_bad_steps": _not_negative,
    "search.log_every": _at_least_one,
    "search.checkpoint_every": _at_least_one,
    "hypergradient.eta": (lambda x: isinstance(x, str) or (math.isfinite(x) and x >= 0), "0 or more, lr, betty"),
    "hypergradient.radius": _positive,
    "hypergradient.terms": _not_negative,
    "retrain.epochs": _positive,
    "retrain.max_steps": _null_or_one,
    "retrain.learning_rate": _positive,
    "retrain.learning_rates": (lambda x: all(math.isfinite(r) and r > 0 for r in x), "numbers above 0"),
    "retrain.batch_size": _at_least_one,
    "retrain.gradient_accumulation": _at_least_one,
    "retrain.weight_decay": _not_negative,
    "retrain.warmup_ratio": _share_or_none,
    "retrain.gradient_clipping": _not_negative,
    "retrain.eval_batch_size": _at_least_one,
    "retrain.checkpoint_every": _at_least_one,
    "study.probe.steps": (lambda x: all(s >= 1 for s in x), "search steps, 1 or more each"),
    "study.probe.etas": (
        lambda x: len(x) > 0 and all(isinstance(e, str) or (math.isfinite(e) and e >= 0) for e in x),
        "at least one of: 0 or more, lr, betty",
    ),
    "study.probe.timed_steps": _at_least_one,
    "study.ray.cpus": _positive,
    # Ray shares one GPU among cells, but not a second one in part.
    "study.ray.gpus": (
        lambda x: x is None or 0 <= x <= 1 or (x > 1 and float(x).is_integer()),
        "null, 0 to 1, or a whole number",
    ),
    "study.ray.retries": _not_negative,
    "decode.num_beams": _at_least_one,
    "decode.length_penalty": (math.isfinite, "a number"),
    "decode.no_repeat_ngram_size": _not_negative,
    "decode.max_new_tokens": _at_least_one,
    "decode.batch_size": _at_least_one,
}


def check(config: RunConfig) -> None:
    """Raises UserError for the first field outside its range, and for combinations that cannot work."""
    for key, (holds, allowed) in RULES.items():
        value = reduce(getattr, key.split("."), config)
        if not holds(value):
            raise UserError(f"--{key}: {value!r} is not allowed; allowed: {allowed}")
    if config.task.type == "glue" and config.task.name is None:
        raise UserError("--task.name: null is not allowed for --task.type glue; allowed: sst2, cola, mrpc, ...")
    if config.task.type == "text" and config.task.path is None:
        raise UserError(
            "--task.path: null is not allowed for --task.type text; allowed: a .csv, .tsv, .jsonl, .parquet"
        )
    if config.search.rule == "budget" and config.search.budget > config.lora.k:
        raise UserError(
            f"--search.budget: {config.search.budget:g} is not allowed with --lora.k {config.lora.k}; allowed: an "
            f"average rank up to k"
        )
    if config.task.type == "tokens":
        _check_tokens(config)
    if config.model.load_in_4bit:
        _check_4bit(config)
    if config.task.type == "generation":
        _check_generation(config)
    if config.hypergradient.type in SECOND_ORDER and config.model.attention == "sdpa":
        raise UserError(
            f"--model.attention: 'sdpa' has no second derivatives, which --hypergradient.type "
            f"{config.hypergradient.type} needs; allowed: auto, eager"
        )
    if config.strategy == "distributed" and processes_started() == 1:
        raise UserError(
            "--strategy: 'distributed' is not allowed for one process; allowed: auto, or start by "
            "torchrun --nproc-per-node 2 run.py ..."
        )
    _check_method(config)
    if config.study.probe.steps:
        _check_probe(config)


def _check_probe(config: RunConfig) -> None:
    """Raises UserError for a comparison of hypergradients that could not be made at the steps asked for."""
    steps, search, study = config.study.probe.steps, config.search, config.study
    asked = f"--study.probe.steps: {steps} is not allowed"
    if not (study.axes or study.variants):
        raise UserError(f"{asked} without a study; allowed: [], or with --study.axes, as {{seed: [0]}}")
    if config.method != "autolora":
        raise UserError(f"{asked} for --method {config.method}, which has no hypergradient; allowed: []")
    if max(steps) > search.steps:
        raise UserError(f"{asked} with --search.steps {search.steps}; allowed: 1 to {search.steps}")
    if any(step % search.unroll_steps for step in steps):
        raise UserError(f"{asked} with --search.unroll_steps {search.unroll_steps}; allowed: multiples of it")
    if config.model.attention == "sdpa":
        raise UserError(
            "--model.attention: 'sdpa' has no second derivatives, which --study.probe.steps needs for the exact "
            "hypergradient; allowed: auto, eager"
        )


def _check_tokens(config: RunConfig) -> None:
    """Raises UserError for what sentences with tags need or cannot have."""
    task = config.task
    if task.path is None:
        raise UserError(
            "--task.path: null is not allowed for --task.type tokens; allowed: a .conll, .iob2, .tsv, .txt, .jsonl, "
            ".parquet, or a folder with train, validation and test of these"
        )
    if task.text_columns is not None and len(task.text_columns) > 1:
        raise UserError(
            f"--task.text_columns: {task.text_columns!r} is not allowed for --task.type tokens; allowed: null, or the "
            f"one column with the words"
        )
    if task.kind == "regression":
        raise UserError("--task.kind: 'regression' is not allowed for --task.type tokens; allowed: classification")


def _check_4bit(config: RunConfig) -> None:
    """Raises UserError for what weights of 4 bits cannot do."""
    if config.method in WITHOUT_LORA:
        raise UserError(f"--model.load_in_4bit: true is not allowed for --method {config.method}; allowed: false")
    if config.export.merged:
        raise UserError("--export.merged: true is not allowed with --model.load_in_4bit true; allowed: false")
    if config.model.name.endswith(".gguf"):
        raise UserError(
            "--model.load_in_4bit: true is not allowed for a .gguf file, which is dequantised; allowed: false"
        )
    if config.device not in ("auto", "cuda"):
        raise UserError(
            f"--device: {config.device!r} is not allowed with --model.load_in_4bit true; allowed: auto, cuda"
        )


def _check_generation(config: RunConfig) -> None:
    """Raises UserError for what a task of sources and targets needs or cannot have."""
    task = config.task
    if task.name not in ("e2e", "webnlg") and task.path is None:
        raise UserError(
            "--task.path: null is not allowed for --task.type generation unless --task.name is e2e or webnlg; "
            "allowed: a .csv, .tsv, .jsonl, .parquet"
        )
    if task.text_columns is not None and len(task.text_columns) > 1:
        raise UserError(
            f"--task.text_columns: {task.text_columns!r} is not allowed for --task.type generation; allowed: null, or "
            f"the one column with the source"
        )
    if task.kind == "regression":
        raise UserError("--task.kind: 'regression' is not allowed for --task.type generation; allowed: classification")


def _check_method(config: RunConfig) -> None:
    """Raises UserError for what the method cannot do with the other settings."""
    method, steps = config.method, config.retrain.max_steps
    if method == "lora_shuffled" and config.lora.ranks_from is None:
        raise UserError("--lora.ranks_from: null is not allowed for --method lora_shuffled; allowed: a ranks.json")
    combinations = len(config.lora.grid) ** len(config.lora.target_modules)
    if method == "lora_grid" and combinations > MOST_GRID_RUNS:
        raise UserError(
            f"--lora.grid: {len(config.lora.grid)} ranks for each of {len(config.lora.target_modules)} target modules "
            f"make {combinations} runs; allowed: up to {MOST_GRID_RUNS}"
        )
    if method != "autolora" and config.retrain.init == "search":
        raise UserError(f"--retrain.init: 'search' is not allowed for --method {method}; allowed: scratch")
    if method == "adalora" and steps is not None and steps < ADALORA_LEAST_STEPS:
        raise UserError(
            f"--retrain.max_steps: {steps} is not allowed for --method adalora; allowed: {ADALORA_LEAST_STEPS} or more"
        )
    parts = [target for target in config.lora.target_modules if PART.fullmatch(target)]
    if method == "adalora" and parts:
        raise UserError(
            f"--lora.target_modules: {', '.join(parts)} is not allowed for --method adalora, whose layers all start "
            f"with one rank; allowed: c_attn"
        )
    if method in WITHOUT_LORA and config.export.padded:
        raise UserError(f"--export.padded: true is not allowed for --method {method}, which has no LoRA")
    if method == "adapter" and config.export.merged:
        raise UserError("--export.merged: true is not allowed for --method adapter: bottlenecks cannot be merged")
