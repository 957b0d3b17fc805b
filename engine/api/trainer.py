"""Learn the ranks of the model of a transformers.Trainer or of TRL's SFTTrainer, on the trainer's rows."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import check_target_module_exists
from torch.utils.data import RandomSampler, SequentialSampler

from autolora.configs.errors import UserError
from autolora.configs.search import AnswerConfig, HypergradientConfig, SearchConfig
from autolora.engine.api.learned import LearnedRanks
from autolora.engine.api.learning import SEARCH, Collator, Precision, Source, learn, settings_of
from autolora.engine.run.given import same_random_numbers
from autolora.engine.terminal.console import heard, log
from autolora.problems.models.bare import bare_model
from autolora.problems.models.given import refuse_other_configs
from autolora.problems.tasks.given import with_columns_of

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
    _refuse_output_layer(trainer, lora_config)
    # TRL's loss counts in these attributes of the trainer, so they are restored after the search.
    kept = {name: deepcopy(vars(trainer)[name]) for name in _COUNTED if name in vars(trainer)}
    try:
        train, collate = _rows_of(trainer)
        validation = with_columns_of(train, validation_dataset)
        rows = Source(train, validation, collate, trainer.compute_loss, plain=_plain_loss(trainer))
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
    _tell_of_order(loader)
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


def _tell_of_order(loader: Any) -> None:
    """Warns of a sampler of the script's own: the search takes the rows in its own order, each equally often."""
    batches = loader.batch_sampler
    sampler = getattr(batches, "sampler", loader.sampler)
    known = isinstance(sampler, RandomSampler | SequentialSampler) and _is_of_library(batches)
    if batches is not None and not known and not _is_of_library(sampler, "transformers"):
        with heard():
            log.warning(
                "trainer: the search does not take the rows as %s draws them, but each row equally often, in an order "
                "of its own", type(sampler if _is_of_library(batches) else batches).__name__,
            )  # fmt: skip


def _is_of_library(thing: Any, *names: str) -> bool:
    return type(thing).__module__.partition(".")[0] in (names or ("torch", "accelerate", "transformers"))


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


def _refuse_output_layer(trainer: Any, lora_config: LoraConfig) -> None:
    """Raises UserError for LoRA on the output layer in TRL's trainer, whose loss ignores it."""
    if lora_config.target_modules is None or _library_of_loss(trainer) != "trl":  # None: PEFT's own, inside blocks
        return
    base = bare_model(trainer.model)
    output = base.get_output_embeddings()
    for name, module in base.named_modules():
        if module is output and check_target_module_exists(lora_config, name):
            raise UserError(
                f"lora_config: target_modules: {name!r} is not allowed with TRL's trainer, which computes the loss "
                f"from that layer's weight without its LoRA; allowed: the layers before it"
            )


def _library_of_loss(trainer: Any) -> str:
    """The name of the library that has the trainer's `compute_loss`."""
    return type(trainer).compute_loss.__module__.partition(".")[0]


def _plain_loss(trainer: Any) -> bool:
    """Whether a trainer's loss is just the mean log loss of the labels."""
    library = _library_of_loss(trainer)
    own = trainer.label_smoother is not None or trainer.compute_loss_func is not None
    kind = getattr(trainer.args, "loss_type", "nll")
    return library in ("transformers", "trl") and not own and kind == "nll"
