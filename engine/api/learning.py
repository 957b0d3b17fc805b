"""Learn the ranks of a script's model on the script's rows; the model is put back."""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import send_to_device
from peft import LoraConfig, PeftModel, TaskType
from torch import nn
from torch.utils.data import ConcatDataset

from autolora.configs.errors import UserError
from autolora.configs.layers import settings
from autolora.configs.measure import MeasureConfig, RuleConfig, Size
from autolora.configs.search import HypergradientConfig, SearchConfig
from autolora.configs.section import Section
from autolora.configs.training import LoraRetrain, ModelConfig
from autolora.engine.api.script import task_of
from autolora.engine.choose import Ranks
from autolora.engine.choose import choose as choose_of
from autolora.engine.measure.evidence import CurvePoint
from autolora.engine.measure.passes import Passes
from autolora.engine.measure_search import measure_search
from autolora.engine.ranks import RankRecord
from autolora.engine.report.findings import measured_lines, ranks_words
from autolora.engine.search.search import search as search_of
from autolora.engine.search.searched import Algorithm
from autolora.engine.terminal.bar import Bar
from autolora.engine.terminal.console import heard, log
from autolora.engine.world import World
from autolora.problems.machine.compute import choose_compute, same_random_numbers
from autolora.problems.models.base import BaseOfScript
from autolora.problems.models.dry_run import mark_unreached
from autolora.problems.models.peft_config import lora_settings, refuse_other_configs, trained_whole
from autolora.problems.models.precision import keep_unpacked
from autolora.problems.models.snapshot import Snapshot, take_adapters_off
from autolora.problems.rows import Rows
from autolora.problems.tasks.base import Loss
from autolora.problems.tasks.scoring import Scoring, scoring_of_script

PRESET = SearchConfig(unroll_steps=4)
"""The search if the script gives none, beside first_order and rule shares; its steps follow from
the rows."""
PASSES = 3
"""How many passes over D_tr such a search takes."""
FEWEST_STEPS = 100
"""How many steps it takes at least; SearchConfig's default is the most."""

Precision = Literal["auto", "fp32", "bf16"]
Collator = Callable[[list[Any]], Any]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class LearnedRanks:
    """The result of a search. Printed, it says which rank is enough, and the share of each layer.

    `lora_config`: a LoraConfig of PEFT with the learned ranks, for `get_peft_model` or a trainer's
    `peft_config`. `record`: the content of ranks.json."""

    lora_config: LoraConfig
    record: RankRecord

    @property
    def ranks(self) -> dict[str, int]:
        """Name of a layer in the base model -> its rank; a layer of rank 0 gets no LoRA."""
        return self.record.ranks

    @property
    def shares(self) -> dict[str, tuple[float, float]] | None:
        """Layer -> its share and the share's standard error, in nats per label; None if shares were
        not measured.

        The shares divide among the layers what LoRA gains on the validation rows over the head
        alone."""
        found = {x.name: (x.layer_share, x.layer_share_standard_error) for x in self.record.layers}
        return None if self.record.evidence is None else found  # type: ignore[return-value]

    @property
    def curve(self) -> tuple[CurvePoint, ...] | None:
        """The validation loss with the same rank in every layer, and the part of LoRA's gain that
        this rank keeps.

        A point for each rank (`at`), rising; None if the curve was not measured."""
        return None if self.record.evidence is None else self.record.evidence.rank_curve

    def save(self, folder: str | Path) -> None:
        """Writes ranks.json and lora_config/, as in a run's folder; overwrites earlier ones."""
        Ranks(self.record, self.lora_config).save(Path(folder))

    def __str__(self) -> str:
        lines = ranks_words(self.record), *measured_lines(self.record), self.record.note
        return "\n".join(filter(None, lines))


def learn_ranks(
    model: nn.Module,
    train_dataset: Any,
    lora_config: LoraConfig,
    *,
    collate: Collator,
    validation_dataset: Any = None,
    loss: Loss | None = None,
    search: SearchConfig | Settings | None = None,
    hypergradient: HypergradientConfig | Settings | None = None,
    measure: MeasureConfig | Settings | None = None,
    choose: RuleConfig | Settings | None = None,
    seed: int = 0,
    precision: Precision = "auto",
) -> LearnedRanks:
    """The LoRA rank of every layer of `model` that `lora_config` targets, found by bilevel search.

    `lora_config.r` is k, the rank that every layer has at the start. `train_dataset` has a length
    and an index; `collate` turns a list of its examples into a dict of tensors.
    `validation_dataset`: the rows that alpha is learned from; None: half of the train rows, drawn
    by seed. `loss`: model and batch -> the mean loss, a scalar; None: `model(**batch).loss`.
    `choose` None: rule `shares`, or `size`, with a warning, if the loss is not the mean log loss of
    the model's logits. The search runs on the model's device. It leaves the model as it found it,
    also after an error.

    `search` None: three passes over the rows that train the LoRA weights, but 100 to 2,000 steps,
    with an outer step after every fourth. `search`, `hypergradient`, `measure`, `choose`: keys and
    values of these sections, such as {"type": "darts", "eta": "lr"}.

    Raises UserError, one line, for what the caller must change.
    """
    rows = train_dataset, validation_dataset, collate, loss
    return _learn(
        model, lora_config, rows, (search, hypergradient, measure, choose), seed, precision
    )


def learn_ranks_from_trainer(
    trainer: Any,
    lora_config: LoraConfig | None = None,
    *,
    validation_dataset: Any = None,
    search: SearchConfig | Settings | None = None,
    hypergradient: HypergradientConfig | Settings | None = None,
    measure: MeasureConfig | Settings | None = None,
    choose: RuleConfig | Settings | None = None,
) -> LearnedRanks:
    """Runs `learn_ranks` with the model, train rows, collator and loss of a transformers.Trainer or
    TRL's SFTTrainer.

    `lora_config` None: that of the trainer's PeftModel, whose adapter weights the search does not
    use. `search` None: batch size, accumulation and learning rate are those of the trainer's
    arguments, the other settings those of `learn_ranks` without `search`. Seed, precision and
    device are always the trainer's, and the search uses gradient checkpointing if the trainer or
    its model does. `validation_dataset`: rows prepared like the train rows, for example those in
    `trainer.eval_dataset`. Raises UserError, one line, for what the caller must change.
    """
    args = trainer.args
    model = trainer.model
    if lora_config is None:
        if not isinstance(model, PeftModel):
            raise UserError(
                "lora_config: None is allowed only for a trainer with a peft_config; give a "
                "LoraConfig"
            )
        lora_config = model.peft_config[model.active_adapter]  # type: ignore[assignment]
    with same_random_numbers(args.device):
        loader = trainer.get_train_dataloader()
        validation = validation_dataset
        if validation is not None:
            # the columns that the model reads
            validation = trainer.get_eval_dataloader(validation).dataset
    of_trainer = {
        "batch_size": args.train_batch_size,
        "gradient_accumulation": args.gradient_accumulation_steps,
        "learning_rate": args.learning_rate,
    }
    return _learn(
        model,
        lora_config,
        (loader.dataset, validation, loader.collate_fn, trainer.compute_loss),
        (search, hypergradient, measure, choose),
        args.seed,
        "bf16" if args.bf16 else "auto" if args.fp16 else "fp32",
        device=args.device,
        recomputes=args.gradient_checkpointing,
        preset=PRESET.model_copy(update=of_trainer),
    )


def _learn(
    model: nn.Module,
    lora_config: Any,
    rows_given: tuple[Any, Any, Collator, Loss | None],
    sections: tuple[Any, ...],
    seed: int,
    precision: Precision,
    *,
    device: torch.device | None = None,
    recomputes: bool = False,
    preset: SearchConfig = PRESET,
) -> LearnedRanks:
    """Searches the ranks and leaves the model as it was, also after an error.

    `rows_given`: train rows, validation rows, collate and loss; `sections`: search,
    hypergradient, measure and choose as the script gave them. `device` None: that of the weights.
    Trainer switches gradient checkpointing on in the model only when it trains, so `recomputes`
    says it."""
    refuse_other_configs(lora_config)
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    weights_on = next(base.parameters()).device
    device = device or weights_on
    # When the block ends, the stack is undone in reverse order: put_back undoes the search's
    # changes to the bare model, and then the script's adapters, the random numbers and the log are
    # restored.
    with ExitStack() as stack:
        stack.enter_context(heard())
        stack.enter_context(same_random_numbers(device))
        stack.callback(Snapshot(base).restore)
        keep_unpacked(base)
        base.zero_grad()  # drops gradients of the script's own backward passes
        take_adapters_off(base)
        recomputes = recomputes or any(
            getattr(module, "gradient_checkpointing", False) is True for module in base.modules()
        )
        lora_config = _with_task_type(lora_config, base)
        rows, d_tr, d_val = _rows_of(rows_given, lora_config.task_type, seed)
        scoring = scoring_of_script(
            lora_config.task_type,
            rows_given[-1],
            rows,
            getattr(base, "config", None),
        )
        two = send_to_device(rows.batch(range(min(2, len(rows)))), weights_on)
        mark_unreached(base, lambda: scoring.loss(base, two))
        lora = lora_settings(lora_config, base)
        given = {"seed": seed, "precision": precision}
        found: Any = settings(given | _sections(sections, preset, len(d_tr)))
        algorithm = Algorithm(
            lora, found.search, found.hypergradient, found.choose, seed, recomputes
        )
        lent = BaseOfScript(trained_whole(base, lora_config, lora), lora.target_modules)
        chosen = choose_compute(device.type, precision, device.index or 0)
        world = World(replace(chosen, device=device), progress=Bar)
        # frees the memory of the searched model, which reference cycles hold
        stack.callback(world.compute.let_go)
        stack.callback(lent.put_back)
        searched = search_of(lent, d_tr, d_val, scoring, algorithm, world)
        measure = found.measure
        of_text = scoring.peft_type == TaskType.CAUSAL_LM
        batch = algorithm.search.batch_size if of_text else 64
        if why := _unmeasured(
            searched.model(lent.lend(), lora, scoring), scoring, rows, world, batch
        ):
            measure = measure.model_copy(update={"rows": 0})
            algorithm = replace(algorithm, rule=_by_size(algorithm, why))
        world.compute.let_go()
        measured = measure_search(
            lent,
            searched,
            d_tr,
            d_val,
            scoring,
            algorithm,
            measure,
            world,
            batch=batch,
        )
        name = getattr(getattr(base, "config", None), "name_or_path", None) or "."
        named = ModelConfig(name=str(name))
        scale = LoraRetrain().scale
        ranks = choose_of(searched, measured, algorithm.rule, scoring, lora, scale, named, world)
        return LearnedRanks(ranks.lora_config, ranks.record)


def _with_task_type(lora_config: LoraConfig, base: Any) -> LoraConfig:
    """The configuration with the task type of a language model, where the script gave none. PEFT
    then trains the same weights. Of a classifier it would train the head, too."""
    if lora_config.task_type is None and task_of(base) == TaskType.CAUSAL_LM:
        lora_config = copy(lora_config)
        lora_config.task_type = TaskType.CAUSAL_LM
    return lora_config


def _rows_of(
    rows_given: tuple[Any, Any, Collator, Loss | None], task: Any, seed: int
) -> tuple[Rows, Rows, Rows]:
    """All rows of the script, D_tr and D_val: the validation rows, or half of all, drawn by
    seed."""
    train, validation, collate, _ = rows_given
    held_out = 0 if validation is None else len(validation)
    rows = Rows.of_script(
        ConcatDataset([train, validation]) if held_out else train,
        collate,
        shifted=task == TaskType.CAUSAL_LM,
        by_text=task in (TaskType.SEQ_CLS, TaskType.TOKEN_CLS),
    )
    if not held_out:
        return rows, *rows.split(0.5, seed, by_input=True)
    count = len(rows) - held_out
    return rows, rows.select(range(count)), rows.select(range(count, len(rows)))


def _sections(sections: tuple[Any, ...], preset: SearchConfig, rows: int) -> dict[str, Any]:
    """The sections of the search, of which the script may give mappings of keys; `rows`: those of
    D_tr."""
    names = ("search", "hypergradient", "measure", "choose")
    given = {
        name: section.model_dump() if isinstance(section, Section) else section or {}
        for name, section in zip(names, sections, strict=True)
    }
    if sections[0] is None:
        a_step = preset.batch_size * preset.gradient_accumulation
        steps = min(max(FEWEST_STEPS, math.ceil(PASSES * rows / a_step)), SearchConfig().steps)
        given["search"] = preset.model_dump() | {"steps": steps}
        log.info("search: %d steps of %d rows; the argument search changes this", steps, a_step)
    return given


def _unmeasured(model: nn.Module, scoring: Scoring, rows: Rows, world: World, batch: int) -> str:
    """Why the log loss of each row by the searched `model` is not known; "" if it is."""
    if not scoring.tells_rows:
        return (
            "this needs a lora_config with task_type SEQ_CLS, TOKEN_CLS or CAUSAL_LM, and "
            "batches that have a row of labels for each example (without packing)"
        )
    model.to(world.compute.device)
    return Passes.of(rows, scoring, world, batch).other_loss(model, scoring.loss)


def _by_size(algorithm: Algorithm, why: str) -> RuleConfig:
    """A rule that measures nothing, which is told; `why` nothing can be measured."""
    rule = algorithm.rule
    if rule.needs_evidence:
        rule = Size(budget=rule.number or algorithm.lora.k / 2)
    log.warning(
        "measure: shares and the curve are not measured, and the rule is %s: %s", rule.rule, why
    )
    return rule
