"""The search that a script asked for, in a temporary folder, on a model that is put back afterwards."""

import dataclasses
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from peft import LoraConfig, TaskType
from torch import nn

from autolora.configs.errors import UserError
from autolora.configs.launch import processes_started
from autolora.configs.layers import validated
from autolora.configs.schema import Autolora
from autolora.configs.search import (
    Answer,
    AnswerConfig,
    FirstOrder,
    Hypergradient,
    HypergradientConfig,
    SearchConfig,
    Shares,
    Threshold,
)
from autolora.configs.tasks import Chat
from autolora.configs.training import LoraSettings, ModelConfig, RetrainOfSearch
from autolora.engine import ranks
from autolora.engine.api.learned import LearnedRanks
from autolora.engine.api.plain_loss import other_loss
from autolora.engine.api.rows_given import refuse_text
from autolora.engine.api.unmeasured import NEEDS, tell_unmeasured, with_task_type
from autolora.engine.choose.stage import find_ranks
from autolora.engine.run.given import ScriptBench, dtype_of, same_random_numbers
from autolora.engine.terminal.console import heard, log
from autolora.problems.machine.compute import on_device
from autolora.problems.models.bare import (
    Snapshot,
    bare_model,
    has_recomputable_blocks,
    stop_recomputing,
    take_adapters_off,
)
from autolora.problems.models.dry_run import mark_unreached
from autolora.problems.models.given import lora_settings, refuse_other_configs, trained_whole
from autolora.problems.models.layers import tell_of_pooler
from autolora.problems.tasks.given import GivenKind, GivenRows, Joined, kind_of, refuse_other_types, refuse_unindexed
from autolora.problems.tasks.kind import Loss

SEARCH = SearchConfig(unroll_steps=4)
"""The search if the script gives none; its steps follow from the number of rows."""
PASSES, FEWEST_STEPS = 3, 100
"""How many passes over D_tr such a search takes, and how many steps at least; SearchConfig's default is the most."""

Precision = Literal["auto", "fp32", "bf16"]
Collator = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class Source:
    """A script's rows, with what makes batches and a loss of them.

    `validation`: the rows that alpha is learned from; None: half of `train`. `plain`: whether the loss is just the
    mean log loss of the labels.
    """

    train: Any
    validation: Any
    collate: Collator
    loss: Loss | None
    plain: bool


def settings_of(
    search: Any, hypergradient: Any, answer: Any, seed: Any, precision: Any, *, default: SearchConfig = SEARCH,
    recomputes: bool = False,
) -> "Settings":  # fmt: skip
    """The settings that a script gives as sections or as mappings of their keys; `default`: the search if it gives
    none. Raises UserError for a wrong one."""
    validated(Autolora, "", {"seed": seed, "precision": precision})
    return Settings(
        default if search is None else validated(SearchConfig, "search", search),
        FirstOrder() if hypergradient is None else validated(Hypergradient, "hypergradient", hypergradient),
        None if answer is None else validated(Answer, "answer", answer), seed, precision,
        recomputes=recomputes, by_passes=search is None,
    )  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The settings of the search and of its answer; `answer` None: the default of `learn_ranks`.

    `recomputes`: whether to recompute activations (gradient checkpointing) even if the model does not do so now.
    `by_passes`: whether the number of steps follows from the number of rows instead of from `search`."""

    search: SearchConfig
    hypergradient: HypergradientConfig
    answer: AnswerConfig | None
    seed: int
    precision: Precision
    recomputes: bool = False
    by_passes: bool = False


def learn(
    model: nn.Module, lora_config: LoraConfig, source: Source, settings: Settings, device: torch.device | None = None
) -> LearnedRanks:  # fmt: skip
    """Searches the ranks and leaves the model as it was, also after an error. `device` None: that of the weights.

    Raises UserError for what the script must change.
    """
    for name, rows_given in (("train_dataset", source.train), ("validation_dataset", source.validation)):
        refuse_text(name, rows_given)
    refuse_other_types(model, source.collate, source.loss)
    refuse_other_configs(lora_config)
    base = bare_model(model)
    weights_on = _one_device(base)
    device = weights_on if device is None else device
    # When the block ends, the stack is undone in reverse order: put_back undoes the search's changes to the bare
    # model, the temporary folder is deleted, and then the script's adapters, the random numbers and the log are
    # restored.
    with ExitStack() as stack:
        stack.enter_context(heard())
        stack.enter_context(torch.inference_mode(False))  # the script may have switched gradients off
        stack.enter_context(torch.enable_grad())
        stack.enter_context(same_random_numbers(device))
        stack.callback(Snapshot(base).restore)
        base.zero_grad()  # drops gradients of the script's own backward passes
        take_adapters_off(base)
        recomputes = (stop_recomputing(base) or settings.recomputes) and has_recomputable_blocks(base)
        lora_config = with_task_type(lora_config, base) if source.plain else lora_config
        rows, count = _rows_of(source, lora_config.task_type)
        kind, why = _kind_of(base, lora_config, source, rows, settings.search.batch_size)
        batch = on_device(rows.collate(rows.__getitems__(range(min(2, len(rows))))), weights_on)
        mark_unreached(base, lambda: kind.loss(base, batch))
        lora = lora_settings(lora_config, base)
        whole = trained_whole(base, lora_config, lora)
        tell_of_pooler(whole, lora.target_modules)
        if settings.by_passes:
            settings = dataclasses.replace(settings, search=_with_steps(settings.search, len(rows), count))
        config = _configuration(base, lora, kind, settings, device, why, recomputes=recomputes)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="learn_ranks_")))
        given = ScriptBench(config, whole, kind, rows, count, folder, device)
        stack.callback(given.compute.let_go)  # frees the memory of the searched model, which reference cycles hold
        stack.callback(given.put_back)
        find_ranks(given)
        learned = LoraConfig.from_pretrained(str(given.folder.lora_config))
        return LearnedRanks(learned, ranks.load(given.folder.ranks), config)


def _with_steps(search: SearchConfig, count: int, held_out: int) -> SearchConfig:
    """The search with the steps of PASSES passes over D_tr, within limits; logs them. Of `count` rows D_tr has all but
    those `held_out` or, if there are none, about half."""
    rows = count - held_out if held_out else max(1, count // 2)
    a_step = search.batch_size * search.gradient_accumulation
    steps = min(max(FEWEST_STEPS, math.ceil(PASSES * rows / a_step)), SearchConfig().steps)
    log.info(
        "search: %d steps of %d rows, %.3g passes over the %d rows of D_tr; the argument search changes this",
        steps, a_step, steps * a_step / rows, rows,
    )  # fmt: skip
    return search.model_copy(update={"steps": steps})


def _rows_of(source: Source, task_type: TaskType | str | None) -> tuple[GivenRows, int]:
    """All rows, those of the validation set last, and how many of them are validation rows (0: no such set)."""
    refuse_unindexed("train_dataset", source.train)
    rows, count = source.train, 0
    if source.validation is not None:
        refuse_unindexed("validation_dataset", source.validation)
        rows, count = Joined(source.train, source.validation), len(source.validation)
    of_texts = task_type in (TaskType.SEQ_CLS, TaskType.TOKEN_CLS)
    return GivenRows(rows, source.collate, shifted=task_type == TaskType.CAUSAL_LM, by_text=of_texts), count


def _kind_of(
    model: nn.Module, lora_config: LoraConfig, source: Source, rows: GivenRows, batch_size: int
) -> tuple[GivenKind, str]:
    """What is learned, and why the log loss of each row is not known; "" if it is."""
    outputs = getattr(getattr(model, "config", None), "num_labels", None)
    kind = kind_of(lora_config.task_type, source.loss, rows, plain=source.plain, outputs=outputs)
    if not kind.tells_rows:
        return kind, NEEDS
    other = other_loss(model, kind, rows, batch_size)
    return (kind, "") if other is None else (dataclasses.replace(kind, tells_rows=False), other)


def _configuration(
    model: Any, lora: LoraSettings, kind: GivenKind, settings: Settings, device: torch.device, why: str, *,
    recomputes: bool,
) -> Autolora:  # fmt: skip
    """The configuration with which the command line would run this search. `why`: why the log loss of each row is not
    known; "" if it is. Raises UserError for settings that cannot work."""
    answer = settings.answer or (Shares() if kind.tells_rows else Threshold())
    if not kind.tells_rows:
        tell_unmeasured(why, settings.answer)
        answer = answer.model_copy(update={"rows": 0})
    if answer.from_run is not None:
        raise UserError("answer.from: is not allowed here; allowed: None")
    if dtype_of(model) == torch.float16:
        raise UserError("model: weights of type float16 are not allowed; allowed: float32, bfloat16")
    name = getattr(getattr(model, "config", None), "name_or_path", None) or "."
    found = {
        "name": "learn_ranks", "seed": settings.seed, "precision": settings.precision, "device": device.type,
        "model": ModelConfig(name=str(name), gradient_checkpointing=recomputes), "lora": lora,
        "hypergradient": settings.hypergradient,
        # This search never resumes, so it writes no checkpoint.
        "search": settings.search.model_copy(update={"checkpoint_every": settings.search.steps + 1}), "answer": answer,
        # The measurement on D_val sends this many rows through a language model at a time.
        "retrain": RetrainOfSearch(batch_size=settings.search.batch_size),
    }  # fmt: skip
    if kind.peft_type == TaskType.CAUSAL_LM:
        # The measurement's batch and the split into D_tr and D_val read from the task that the model has no head, and
        # that rows have no sources.
        found["task"] = Chat(type="chat", path="-", split_by="row")
    config: Autolora = validated(Autolora, "", found)
    return config


def _one_device(model: nn.Module) -> torch.device:
    """The device of all weights. Raises UserError for several devices, and if there are several processes."""
    if processes_started() > 1:
        raise UserError("learn_ranks: several processes are not allowed; allowed: one, without torchrun")
    found = {parameter.device for parameter in model.parameters()}
    if len(found) != 1 or "meta" in {device.type for device in found}:
        there = ", ".join(sorted(str(device) for device in found)) or "none"
        raise UserError(f"model: its weights are on {there}; allowed: one device for all")
    return found.pop()
