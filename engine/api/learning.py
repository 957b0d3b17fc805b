"""Learn the ranks of a script's model on the script's rows, in a temporary folder; the model is put back."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import copy
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
from autolora.engine.api.plain_loss import made_for, unmeasured
from autolora.engine.choose.stage import answer as answer_of
from autolora.engine.run.given import ScriptBench, dtype_of, same_random_numbers
from autolora.engine.search.stage import search as search_of
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
from autolora.problems.tasks.given import GivenKind, GivenRows, Joined, kind_of
from autolora.problems.tasks.kind import Loss

SEARCH = SearchConfig(unroll_steps=4)
"""The search if the script gives none; its steps follow from the number of rows."""
PASSES, FEWEST_STEPS = 3, 100
"""How many passes over D_tr such a search takes, and how many steps at least; SearchConfig's default is the most."""

_COLLATORS: dict[TaskType | None, str] = {
    TaskType.TOKEN_CLS: "DataCollatorForTokenClassification",
    TaskType.CAUSAL_LM: "DataCollatorForSeq2Seq",
}
"""The collator of transformers that pads the labels of each example, too."""

Precision = Literal["auto", "fp32", "bf16"]
Collator = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class Source:
    """A script's rows, with what makes batches and a loss of them.

    `validation`: the rows that alpha is learned from; None: half of `train`.
    """

    train: Any
    validation: Any
    collate: Collator
    loss: Loss | None


def learn_ranks(
    model: nn.Module,
    train_dataset: Any,
    lora_config: LoraConfig,
    *,
    collate: Collator | None = None,
    validation_dataset: Any = None,
    loss: Loss | None = None,
    search: SearchConfig | Mapping[str, Any] | None = None,
    hypergradient: HypergradientConfig | Mapping[str, Any] | None = None,
    answer: AnswerConfig | Mapping[str, Any] | None = None,
    seed: int = 0,
    precision: Precision = "auto",
) -> LearnedRanks:
    """The LoRA rank of every layer of `model` that `lora_config` targets, found by bilevel search.

    `lora_config.r` is k, the rank that every layer has at the start. `train_dataset` has a length and an index;
    `collate`, which must be given, turns a list of its examples into a dict of tensors. `validation_dataset`: the rows
    that alpha is learned from; None: half of the train rows, drawn by seed. `loss`: model and batch -> the mean loss,
    a scalar; None: `model(**batch).loss`. `answer` None: rule `shares`, or `threshold`, with a warning, if the loss
    is not the mean log loss of the model's logits. The search runs on the model's device. It leaves the model as it
    found it, also after an error.

    `search` None: three passes over the rows that train the LoRA weights, but 100 to 2,000 steps, with an outer step
    after every fourth.

    `search`, `hypergradient`, `answer`: keys and values of these sections, such as {"type": "darts", "eta": "lr"}.

    Raises UserError, one line, for what the caller must change.
    """
    if collate is None:
        raise UserError(
            f"collate: is missing; allowed: a function that makes a dict of tensors from a list of examples, such as "
            f"transformers.{_COLLATORS.get(made_for(model), 'DataCollatorWithPadding')}(tokenizer)"
        )
    rows = Source(train_dataset, validation_dataset, collate, loss)
    settings = settings_of(search, hypergradient, answer, seed, precision)
    return learn(model, lora_config, rows, settings)


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
        lora_config = _with_task_type(lora_config, base)
        rows, count = _rows_of(source, lora_config.task_type)
        outputs = getattr(getattr(base, "config", None), "num_labels", None)
        kind = kind_of(lora_config.task_type, source.loss, rows, plain=True, outputs=outputs)
        batch = on_device(rows.collate(rows.__getitems__(range(min(2, len(rows))))), weights_on)
        mark_unreached(base, lambda: kind.loss(base, batch))
        lora = lora_settings(lora_config, base)
        whole = trained_whole(base, lora_config, lora)
        tell_of_pooler(whole, lora.target_modules)
        if settings.by_passes:
            settings = dataclasses.replace(settings, search=_with_steps(settings.search, len(rows), count))
        config = _configuration(base, lora, kind, settings, device, recomputes=recomputes)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="learn_ranks_")))
        given = ScriptBench(config, whole, kind, rows, count, folder, device)
        stack.callback(given.compute.let_go)  # frees the memory of the searched model, which reference cycles hold
        stack.callback(given.put_back)
        engine = search_of(given)
        if why := unmeasured(engine.lora.module, kind, rows, given.compute):
            given.config = config = _by_alpha(config, why)
        del engine
        given.compute.let_go()
        answer_of(given)
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
    if isinstance(source.train, str):  # it has a length and an index as rows have, of its letters
        raise UserError("train_dataset: a text is not allowed; load the rows, as with datasets.load_dataset")
    rows, count = source.train, 0
    if source.validation is not None:
        rows, count = Joined(source.train, source.validation), len(source.validation)
    of_texts = task_type in (TaskType.SEQ_CLS, TaskType.TOKEN_CLS)
    return GivenRows(rows, source.collate, shifted=task_type == TaskType.CAUSAL_LM, by_text=of_texts), count


def _with_task_type(lora_config: LoraConfig, model: nn.Module) -> LoraConfig:
    """The LoraConfig with the task type of a causal language model, if it has none and the model is one.

    With this type PEFT trains the same weights as without one. For a classifier it would train the head, too, so that
    type is never added."""
    if lora_config.task_type is not None or made_for(model) != TaskType.CAUSAL_LM:
        return lora_config
    log.info("lora_config: has no task_type; CAUSAL_LM is taken, as the model is a %s", type(model).__name__)
    completed = copy(lora_config)
    completed.task_type = TaskType.CAUSAL_LM
    return completed


def _by_alpha(config: Autolora, why: str) -> Autolora:
    """The configuration with a rule that measures nothing, which is told; `why` nothing can be measured."""
    rule = Threshold() if config.answer.needs_evidence else config.answer
    log.warning("answer: shares and the curve are not measured, and the rule is %s: %s", rule.rule, why)
    return config.model_copy(update={"answer": rule.model_copy(update={"rows": 0})})


def _configuration(
    model: Any, lora: LoraSettings, kind: GivenKind, settings: Settings, device: torch.device, *, recomputes: bool
) -> Autolora:
    """The configuration with which the command line would run this search. Raises UserError for settings that cannot
    work."""
    answer = settings.answer or Shares()
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
