"""For scripts: learn the LoRA ranks of a model that is already loaded, on rows that the script gives (docs/api.md)."""

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, TaskType
from torch import nn

from configs.errors import UserError
from configs.keys import check_type, check_types
from configs.launch import processes_started
from configs.rules import check, needs_evidence
from configs.schema import (
    HypergradientConfig,
    LoraSettings,
    ModelConfig,
    RetrainConfig,
    RunConfig,
    SearchConfig,
)
from configs.schema_answer import AnswerConfig
from configs.schema_task import TaskConfig
from engine import ranks
from engine.answer.find import find_ranks
from engine.answer.words import conclusion, curve_lines, gain_words, share_lines
from engine.export.lora_config import save_lora_config
from engine.ranks import RankRecord
from engine.ranks.evidence import CurvePoint
from engine.run.folder import RunFolder
from engine.run.given import ScriptBench, dtype_of, same_random_numbers
from engine.terminal.console import heard, log
from problems.models.bare import Snapshot, stop_recomputing, take_adapters_off
from problems.models.given import lora_settings, trained_whole
from problems.tasks.given import (
    GivenKind,
    GivenRows,
    Joined,
    LossOf,
    kind_of,
    refuse_other_types,
    refuse_unindexed,
    with_columns_of,
)  # fmt: skip

__all__ = [
    "AnswerConfig", "HypergradientConfig", "LearnedRanks", "SearchConfig", "UserError", "learn_ranks",
    "learn_ranks_from_trainer",
]  # fmt: skip

Precision = Literal["auto", "fp32", "bf16"]
Collator = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class LearnedRanks:
    """The result of a search. Printed, it says which rank is enough, and the share of each layer.

    `lora_config`: a LoraConfig of PEFT with the learned ranks, for `get_peft_model` or a trainer's `peft_config`.
    `record`: the content of ranks.json.
    """

    lora_config: LoraConfig
    record: RankRecord
    config: RunConfig
    """The settings of the search."""

    @property
    def ranks(self) -> dict[str, int]:
        """Name of a layer in the base model -> its rank; a layer of rank 0 gets no LoRA."""
        return self.record.ranks

    @property
    def shares(self) -> dict[str, tuple[float, float]] | None:
        """Layer -> its share and the share's standard error, in nats per label; None if shares were not measured.

        The shares divide among the layers what switching LoRA off would cost on the validation rows."""
        found = {
            layer.name: (layer.layer_share, layer.layer_share_standard_error)
            for layer in self.record.layers
            if layer.layer_share is not None and layer.layer_share_standard_error is not None
        }
        return found or None

    @property
    def curve(self) -> tuple[CurvePoint, ...] | None:
        """The validation loss with the same rank in every layer, and the part of LoRA's gain that this rank keeps.

        A point for each rank (`at`), rising; None if the curve was not measured."""
        return None if self.record.evidence is None else self.record.evidence.rank_curve

    def save(self, folder: str | Path) -> None:
        """Writes ranks.json and lora_config/, as in a run's folder; overwrites earlier ones."""
        place = RunFolder(Path(folder))
        place.root.mkdir(parents=True, exist_ok=True)
        save_lora_config(self.lora_config, self.record, place.lora_config, self.config)
        ranks.save(self.record, place.ranks)

    def __str__(self) -> str:
        evidence = self.record.evidence
        lines = [f"ranks by {self.record.rule}: mean {self.record.mean_rank:.2f} of k = {self.record.k}"]
        if evidence is not None:
            lines += [gain_words(evidence), *curve_lines(self.record), conclusion(self.record)]
            lines += share_lines(self.record)
        return "\n".join([*lines, *([self.record.note] if self.record.note else [])])


def learn_ranks(
    model: nn.Module,
    train_dataset: Any,
    lora_config: LoraConfig,
    *,
    collate: Collator,
    validation_dataset: Any = None,
    loss: LossOf | None = None,
    search: SearchConfig = SearchConfig(),  # noqa: B008 (frozen)
    hypergradient: HypergradientConfig = HypergradientConfig(),  # noqa: B008
    answer: AnswerConfig = AnswerConfig(),  # noqa: B008
    seed: int = 0,
    precision: Precision = "auto",
) -> LearnedRanks:
    """The LoRA rank of every layer of `model` that `lora_config` targets, found by bilevel search.

    `lora_config.r` is k, the rank that every layer has at the start. `train_dataset` has a length and an index;
    `collate` turns a list of its examples into a dict of tensors. `validation_dataset`: the rows that alpha is learned
    from; None: half of the train rows, drawn by seed. `loss`: model and batch -> the mean loss, a scalar; None:
    `model(**batch).loss`. The search runs on the model's device. It leaves the model as it found it, also after an
    error.

    Raises UserError, one line, for what the caller must change.
    """
    return _learn(
        model, train_dataset, lora_config, collate, validation_dataset, loss, search, hypergradient, answer, seed,
        precision, plain=loss is None,
    )  # fmt: skip


def learn_ranks_from_trainer(
    trainer: Any,
    lora_config: LoraConfig | None = None,
    *,
    validation_dataset: Any = None,
    search: SearchConfig | None = None,
    hypergradient: HypergradientConfig = HypergradientConfig(),  # noqa: B008
    answer: AnswerConfig = AnswerConfig(),  # noqa: B008
) -> LearnedRanks:
    """Runs `learn_ranks` with the model, train rows, collator and loss of a transformers.Trainer or TRL's SFTTrainer.

    `lora_config` None: that of the trainer's PeftModel, whose adapter weights the search does not use. `search` None:
    batch size, accumulation and learning rate are the trainer's. Seed, precision and device are always the trainer's.
    `validation_dataset`: rows prepared like the train rows, for example those in `trainer.eval_dataset`.
    The search leaves the trainer as it found it. Raises UserError, one line, for what the caller must change.
    """
    args, model = trainer.args, trainer.model
    _refuse_other_trainers(trainer)
    lora_config = lora_config or _of_adapter(model)
    search = search or SearchConfig(
        batch_size=args.per_device_train_batch_size,
        gradient_accumulation=args.gradient_accumulation_steps,
        learning_rate=float(args.learning_rate),
    )
    # TRL's loss counts in these attributes of the trainer, so they are restored after the search.
    kept = {name: deepcopy(vars(trainer)[name]) for name in _COUNTED if name in vars(trainer)}
    try:
        rows, collate = _rows_of(trainer)
        validation_dataset = with_columns_of(rows, validation_dataset)
        return _learn(
            model, rows, lora_config, collate, validation_dataset, trainer.compute_loss, search, hypergradient,
            answer, args.seed, "bf16" if args.bf16 else "auto" if args.fp16 else "fp32", plain=_plain_loss(trainer),
            device=args.device,
        )  # fmt: skip
    finally:
        vars(trainer).update(kept)


_COUNTED = ("_metrics", "_total_train_tokens")


def _rows_of(trainer: Any) -> tuple[Any, Collator]:
    """The train rows, without columns that the model does not read, and the collator of the trainer."""
    with same_random_numbers(trainer.args.device):
        loader = trainer.get_train_dataloader()
    prepared = getattr(trainer.accelerator, "_dataloaders", [])
    if loader in prepared:  # if it stayed there, the trainer would save this loader's state in its checkpoints
        prepared.remove(loader)
    return loader.dataset, loader.collate_fn


def _of_adapter(model: Any) -> Any:
    """The LoraConfig of a PeftModel."""
    if not isinstance(model, PeftModel):
        raise UserError("lora_config: None is allowed only for a trainer with a peft_config; give a LoraConfig")
    return model.peft_config[model.active_adapter]


def _refuse_other_trainers(trainer: Any) -> None:
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


def _plain_loss(trainer: Any) -> bool:
    """Whether a trainer's loss is just the mean log loss of the labels."""
    library = type(trainer).compute_loss.__module__.partition(".")[0]
    own = trainer.label_smoother is not None or trainer.compute_loss_func is not None
    kind = getattr(trainer.args, "loss_type", "nll")
    return library in ("transformers", "trl") and not own and kind == "nll"


def _learn(
    model: nn.Module, train: Any, lora_config: LoraConfig, collate: Collator, validation: Any, loss: LossOf | None,
    search: SearchConfig, hypergradient: HypergradientConfig, answer: AnswerConfig, seed: int, precision: Precision,
    *, plain: bool, device: torch.device | None = None,
) -> LearnedRanks:  # fmt: skip
    refuse_other_types(model, collate, loss)
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    device = _one_device(base) if device is None else device
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
        recomputes = stop_recomputing(base)
        lora = lora_settings(lora_config, base)
        whole = trained_whole(base, lora_config, lora)
        refuse_unindexed("train_dataset", train)
        if validation is not None:
            refuse_unindexed("validation_dataset", validation)
        source = train if validation is None else Joined(train, validation)
        rows = GivenRows(source, collate, shifted=lora_config.task_type == TaskType.CAUSAL_LM)
        outputs = getattr(getattr(base, "config", None), "num_labels", None)
        kind = kind_of(lora_config.task_type, loss, rows, plain=plain, outputs=outputs)
        config = _settings(base, lora, kind, search, hypergradient, answer, seed, precision, device, recomputes)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="learn_ranks_")))
        count = 0 if validation is None else len(validation)
        given = ScriptBench(config, whole, kind, rows, count, folder, device)
        stack.callback(given.compute.let_go)  # frees the memory of the searched model, which reference cycles hold
        stack.callback(given.put_back)
        find_ranks(given)
        learned = LoraConfig.from_pretrained(str(given.folder.lora_config))
        return LearnedRanks(learned, ranks.load(given.folder.ranks), config)


def _settings(
    model: Any, lora: LoraSettings, kind: GivenKind, search: SearchConfig, hypergradient: HypergradientConfig,
    answer: AnswerConfig, seed: int, precision: Precision, device: torch.device, recomputes: bool,
) -> RunConfig:  # fmt: skip
    """The configuration with which the command line would run this search. Raises UserError for settings that cannot
    work."""
    for section, value in (("search", search), ("hypergradient", hypergradient), ("answer", answer)):
        check_types(section, value)
    check_type("seed", seed)
    check_type("precision", precision)
    if not kind.tells_rows:
        _refuse_unmeasured(answer)
        log.info("answer: the log loss of each row is not known here, so shares and the curve are not measured")
        answer = dataclasses.replace(answer, rows=0)
    if answer.from_run is not None:
        raise UserError("answer.from_run: is not allowed here; allowed: None")
    if dtype_of(model) == torch.float16:
        raise UserError("model: weights of type float16 are not allowed; allowed: float32, bfloat16")
    name = getattr(getattr(model, "config", None), "name_or_path", None) or "."
    config = RunConfig(
        name="learn_ranks", seed=seed, precision=precision, device=device.type,  # type: ignore[arg-type]
        model=ModelConfig(name=str(name), gradient_checkpointing=recomputes), lora=lora, hypergradient=hypergradient,
        # This search never resumes, so it writes no checkpoint.
        search=dataclasses.replace(search, checkpoint_every=search.steps + 1), answer=answer,
        # The measurement on D_val sends this many rows through a language model at a time.
        retrain=RetrainConfig(batch_size=search.batch_size),
    )  # fmt: skip
    check(config)
    causal = kind.peft_type == TaskType.CAUSAL_LM
    return dataclasses.replace(config, task=TaskConfig(type="chat", split_by="row")) if causal else config


def _refuse_unmeasured(answer: AnswerConfig) -> None:
    if needs_evidence(answer):
        rule = "shares" if answer.rule == "shares" else "size with budget auto"
        raise UserError(
            f"answer.rule: {rule} is measured by the log loss of every row, which is known only for the task types "
            f"SEQ_CLS, TOKEN_CLS and CAUSAL_LM, with labels in the batches and the model's own loss; allowed here: "
            f"threshold, or size with a number as budget"
        )


def _one_device(model: nn.Module) -> torch.device:
    """The device of all weights. Raises UserError for several devices, and if there are several processes."""
    if processes_started() > 1:
        raise UserError("learn_ranks: several processes are not allowed; allowed: one, without torchrun")
    found = {parameter.device for parameter in model.parameters()}
    if len(found) != 1 or "meta" in {device.type for device in found}:
        there = ", ".join(sorted(str(device) for device in found)) or "none"
        raise UserError(f"model: its weights are on {there}; allowed: one device for all")
    return found.pop()
