"""Learn the ranks of the model of a transformers.Trainer or of TRL's SFTTrainer, on the trainer's rows."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from peft import LoraConfig, PeftModel

from autolora.configs.errors import UserError
from autolora.configs.search import AnswerConfig, HypergradientConfig, SearchConfig
from autolora.engine.api.learned import LearnedRanks
from autolora.engine.api.learning import SEARCH, Collator, Precision, Source, learn, settings_of
from autolora.engine.run.given import same_random_numbers
from autolora.problems.models.given import refuse_other_configs

_COUNTED = ("_metrics", "_total_train_tokens")
"""Attributes of a trainer in which TRL's loss counts."""


def learn_ranks_from_trainer(
    trainer: Any,
    lora_config: LoraConfig | None = None,
    *,
    validation_dataset: Any = None,
    search: SearchConfig | Mapping[str, Any] | None = None,
    hypergradient: HypergradientConfig | Mapping[str, Any] | None = None,
    answer: AnswerConfig | Mapping[str, Any] | None = None,
) -> LearnedRanks:
    """Runs `learn_ranks` with the model, train rows, collator and loss of a transformers.Trainer or TRL's SFTTrainer.

    `lora_config` None: that of the trainer's PeftModel, whose adapter weights the search does not use. `search` None:
    batch size, accumulation and learning rate (of its optimizer, if it was given one) are the trainer's, the other
    settings those of `learn_ranks` without `search`. Seed, precision and device are always the trainer's, and the
    search uses gradient checkpointing if the trainer or its model does.
    `validation_dataset`: rows prepared like the train rows, for example those in `trainer.eval_dataset`.
    The search leaves the trainer as it found it. Raises UserError, one line, for what the caller must change.
    """
    _refuse_other_trainers(trainer)
    args = trainer.args
    lora_config = _of_adapter(trainer.model) if lora_config is None else lora_config
    refuse_other_configs(lora_config)
    # TRL's loss counts in these attributes of the trainer, so they are restored after the search.
    kept = {name: deepcopy(vars(trainer)[name]) for name in _COUNTED if name in vars(trainer)}
    try:
        train, collate = _rows_of(trainer)
        validation = validation_dataset
        if validation is not None and hasattr(train, "column_names"):
            validation = validation.select_columns(train.column_names)  # prepared, as the train rows are
        rows = Source(train, validation, collate, trainer.compute_loss)
        precision: Precision = "bf16" if args.bf16 else "auto" if args.fp16 else "fp32"
        # Trainer switches gradient checkpointing on in the model only when it trains.
        settings = settings_of(
            search, hypergradient, answer, args.seed, precision, default=_search_of(trainer),
            recomputes=bool(args.gradient_checkpointing),
        )  # fmt: skip
        return learn(trainer.model, lora_config, rows, settings, args.device)
    finally:
        vars(trainer).update(kept)


def _rows_of(trainer: Any) -> tuple[Any, Collator]:
    """The train rows, without columns that the model does not read, and the collator of the trainer."""
    with same_random_numbers(trainer.args.device):
        loader = trainer.get_train_dataloader()
    prepared = getattr(trainer.accelerator, "_dataloaders", [])
    if loader in prepared:  # if it stayed there, the trainer would save this loader's state in its checkpoints
        prepared.remove(loader)
    return loader.dataset, loader.collate_fn


def _search_of(trainer: Any) -> SearchConfig:
    """The search of `learn_ranks`, with the batch size, the accumulation and the learning rate of the trainer."""
    args = trainer.args
    of_trainer = {
        "batch_size": args.train_batch_size, "gradient_accumulation": args.gradient_accumulation_steps,
        "learning_rate": _rate_of(trainer),
    }  # fmt: skip
    return SEARCH.model_copy(update=of_trainer)


def _rate_of(trainer: Any) -> float:
    """The learning rate at which the trainer will train: that of an optimizer that it was given, else its arguments'.

    Of several groups of weights with rates of their own, the first decides. A scheduler changes `lr`, and keeps its
    peak or where it began. An optimizer that finds its rate itself (Adafactor) has none: the arguments' rate counts.
    """
    given: dict[str, Any] = (getattr(trainer, "optimizer_cls_and_kwargs", None) or (None, {}))[1]
    if trainer.optimizer is not None:
        (given, *_) = trainer.optimizer.param_groups
    rate = given.get("max_lr") or given.get("initial_lr") or given.get("lr")
    return float(rate or trainer.args.learning_rate)


def _of_adapter(model: Any) -> Any:
    """The LoraConfig of a PeftModel."""
    if not isinstance(model, PeftModel):
        raise UserError("lora_config: None is allowed only for a trainer with a peft_config; give a LoraConfig")
    return model.peft_config[model.active_adapter]


def _refuse_other_trainers(trainer: Any) -> None:
    if not all(hasattr(trainer, name) for name in ("args", "model", "compute_loss", "get_train_dataloader")):
        kind = type(trainer).__name__
        raise UserError(f"trainer: {kind} is not allowed; allowed: a transformers.Trainer, such as TRL's SFTTrainer")
    args = trainer.args
    for wrong, what in (
        (args.world_size > 1, f"a trainer of {args.world_size} processes"),
        (getattr(trainer, "is_deepspeed_enabled", False), "a trainer with DeepSpeed"),
        (getattr(trainer, "is_fsdp_enabled", False), "a trainer with FSDP"),
        (trainer.train_dataset is None, "a trainer without train_dataset"),
    ):
        if wrong:
            raise UserError(
                f"trainer: {what} is not allowed; allowed: one process without DeepSpeed or FSDP, with a train_dataset"
            )
