"""What follows from a configuration: kinds of methods and tasks, and values on which several keys decide."""

import re
from collections.abc import Mapping
from typing import Any

from autolora.configs.hypergradients import BUILT_IN
from autolora.configs.methods import FACTS
from autolora.configs.own_class import is_own, own_class
from autolora.configs.schema import RunConfig
from autolora.configs.schema_answer import AnswerConfig

# Keys, and whole sections, that change what a search finds. NOT_READ_BY_SEARCH has the keys inside them that do not.
READ_BY_SEARCH = (
    "method", "seed", "precision", "model", "task", "lora.target_modules", "lora.modules_to_save", "lora.k",
    "lora.lora_alpha", "lora.dropout", "search", "hypergradient",
)  # fmt: skip
NOT_READ_BY_SEARCH = (
    "task.metrics", "task.samples", "task.evaluation_rows", "task.unused_rows", "search.checkpoint_every",
    "search.max_bad_steps", "model.gradient_checkpointing",
)  # fmt: skip

# Methods that train with several choices of ranks and keep the best.
CHOOSING_RANKS = {method for method, facts in FACTS.items() if facts.search == "trials"}
SEARCHING = {method for method, facts in FACTS.items() if facts.search}
# Methods that search nothing, but may start from the components that another run has searched.
FROM_COMPONENTS = {method for method, facts in FACTS.items() if facts.trains == "lora"} - SEARCHING
WITHOUT_LORA = {method for method, facts in FACTS.items() if facts.trains not in ("lora", "own_lora")}
# Tasks whose models have no task head.
WITHOUT_HEAD = {"generation", "chat"}
# GPT-2's c_attn computes query, key and value, in this order. A target module that PART matches names one of them,
# which then has its own LoRA rank.
FUSED = ("q", "k", "v")
PART = re.compile(r"(?:.*\.)?c_attn\.[qkv]")
# AdaLoRA's three phases (warm-up, allocation, training at the final ranks) need some steps each.
ADALORA_LEAST_STEPS = 10


def second_order(config: RunConfig) -> bool:
    """Whether the hypergradient needs second derivatives. One of the user's own says so itself; its file is run for
    this. Raises UserError if the file or the class is missing or fails."""
    chosen = config.hypergradient.type
    if is_own(chosen):
        return bool(getattr(own_class(chosen, "hypergradient.type"), "second_order", False))
    return BUILT_IN[chosen].second_order


def reads(config: RunConfig, key: str) -> bool:
    """Whether the hypergradient may read this key of its section. One of the user's own may read all of them."""
    chosen = config.hypergradient.type
    return is_own(chosen) or key in BUILT_IN[chosen].reads


def moves_alpha(config: RunConfig) -> bool:
    """Whether the search takes outer steps; with hypergradient.type none it does not, and alpha never changes."""
    return config.hypergradient.type != "none"


def read_by_comparison(key: str, config: RunConfig) -> bool:
    """Whether the study compares hypergradients along a search of its own that reads this key: then the key's value
    outside the study's cells counts, too. (That search has method autolora, whatever the key `method` says.)"""
    compares = bool(config.study.probe.steps) and config.answer.from_run is None
    read = any(key == name or key.startswith(f"{name}.") for name in READ_BY_SEARCH)
    return compares and read and key not in ("method", *NOT_READ_BY_SEARCH)


def only_alpha_is_1(config: RunConfig) -> bool:
    """Whether a layer's alpha is 1 whatever beta is: softmax over a single component."""
    return config.lora.k == 1 and config.search.constraint == "softmax"


def second_derivatives(config: RunConfig) -> str:
    """The key and value that make this run take second derivatives, for a message; "" if it takes none.

    Only a search by gradients takes them: not the other methods, nor a run that copies another run's search."""
    if config.method != "autolora" or config.answer.from_run is not None:
        return ""
    if second_order(config):
        return f"--hypergradient.type {config.hypergradient.type}"
    return "--study.probe.steps" if config.study.probe.steps else ""


def needs_evidence(answer: AnswerConfig) -> bool:
    """Whether the ranks depend on what is measured on D_val."""
    return answer.rule == "shares" or (answer.rule == "size" and answer.budget == "auto")


def data_seed(config: RunConfig) -> int:
    """The seed for draws from the data: held-out rows, train_rows, D_tr and D_val."""
    return config.seed if config.task.seed is None else config.task.seed


def recorded_data_seed(settings: Mapping[str, Any]) -> int | None:
    """`data_seed` of a run by the settings that it recorded, key -> value; None if they have no seed."""
    seed = settings.get("task.seed")
    return settings.get("seed") if seed is None else seed


def trains_blocks(config: RunConfig) -> bool:
    """Whether anything inside the base model's blocks is trained: only then gradient checkpointing saves memory."""
    return FACTS[config.method].trains != "head"


def trains_all(config: RunConfig) -> bool:
    """Whether every weight of the base model is trained."""
    return FACTS[config.method].trains == "all"


def evaluates_base(config: RunConfig) -> bool:
    """Whether a run only evaluates the base model: method head trains nothing if the model has no head."""
    headless = config.task.type in WITHOUT_HEAD and not config.lora.modules_to_save
    return headless and not trains_blocks(config)


def evaluation_batch(config: RunConfig) -> int:
    """Examples per batch if no gradient is computed."""
    retrain = config.retrain
    return retrain.eval_batch_size or (retrain.batch_size if config.task.type in WITHOUT_HEAD else 64)


def writes_padded(config: RunConfig) -> bool:
    """Whether adapter_padded/ is written; by default only for language models."""
    wanted = config.export.padded
    return config.task.type in WITHOUT_HEAD if wanted is None else wanted
