"""A run: what all runs have, and a class for each method, with the keys that it reads and what is true of it."""

from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from autolora.configs.search import Answer, FirstOrder, Hypergradient, SearchConfig, Shares
from autolora.configs.section import ALL_LINEAR, FilePath, Name, Section, Seed
from autolora.configs.study import StudyConfig, VerdictConfig
from autolora.configs.tasks import AnyTask, Sample
from autolora.configs.training import (
    AdapterSettings,
    ExportConfig,
    LoraAtRank,
    LoraInBudget,
    LoraOfEva,
    LoraOfGrid,
    LoraOfRanks,
    LoraOfTrials,
    LoraRandom,
    LoraRetrain,
    LoraSettings,
    LoraShuffled,
    ModelConfig,
    RetrainConfig,
    RetrainFrom,
    RetrainOfSearch,
    SavedModules,
    TrackingConfig,
)

Stage = Literal["all", "search", "retrain", "report", "verdict"]


class RunConfig(Section):
    """What every run has: its folder, its base model, its task, and a training."""

    trains: ClassVar[Literal["lora", "own_lora", "part", "all", "head"]] = "lora"
    """lora: plain LoRA at ranks that are known before the training; own_lora: LoRA in a way of the method's own; part:
    some weights inside the base model's blocks; all: every weight; head: nothing inside the blocks."""
    searches: ClassVar[Literal["gradients", "trials"] | None] = None
    """How its ranks are searched on D_val: trials are trainings at several choices of ranks."""
    recorded_rule: ClassVar[str] = ""
    """`rule` in the ranks.json that it writes; "" if it writes none, or (autolora) that of answer.rule."""
    always_merged: ClassVar[bool] = False
    """Whether it always saves the whole model, in merged/."""

    name: Name | None = None
    """Name of the run's folder in runs_folder; null: the config file's name (in a wandb sweep with the id of the trial
    behind it)."""
    runs_folder: FilePath = "runs"
    """Folder that holds the runs."""
    method: str
    seed: Seed = 0
    """Seed of all random numbers: split, order of the data, weights, dropout."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the arithmetic in search and training; evaluation and decoding use the precision of the weights
    (model.dtype). auto: bf16 if the processor or GPU supports it in hardware."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: cuda if there is one, else mps, else cpu."""
    model: ModelConfig = ModelConfig()
    task: AnyTask = Sample()
    retrain: RetrainConfig = RetrainConfig()
    tracking: TrackingConfig = TrackingConfig()
    study: StudyConfig | None = None

    @property
    def studied(self) -> StudyConfig:
        """The section study, or its defaults."""
        return self.study or StudyConfig()

    @property
    def is_study(self) -> bool:
        """Whether these settings are those of many runs."""
        return self.study is not None and bool(self.study.axes)

    @property
    def has_lora(self) -> bool:
        """Whether the method trains LoRA."""
        return self.trains in ("lora", "own_lora")

    @property
    def trains_blocks(self) -> bool:
        """Whether anything inside the base model's blocks is trained; else gradient checkpointing saves no memory."""
        return self.trains != "head"

    @property
    def evaluates_base(self) -> bool:
        """Whether a run only evaluates the base model: method head trains nothing if the model has no head."""
        return self.task.headless and not self.modules_to_save and not self.trains_blocks

    @property
    def modules_to_save(self) -> list[str] | None:
        """lora.modules_to_save; None for a method without it."""
        return None

    @property
    def data_seed(self) -> int:
        """The seed for draws from the data: held-out rows, train_rows, D_tr and D_val."""
        return self.seed if self.task.seed is None else self.task.seed

    @property
    def evaluation_batch(self) -> int:
        """Examples per batch if no gradient is computed."""
        return self.retrain.eval_batch_size or (self.retrain.batch_size if self.task.headless else 64)

    @property
    def second_derivatives(self) -> str:
        """The key and value that make this run take second derivatives, for a message; "" if it takes none."""
        return ""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        model = self.model
        if model.dtype == "nf4" and not self.has_lora:
            raise ValueError(f"model.dtype: nf4 is not allowed for method {self.method}, which trains the base model")
        if model.dtype == "bf16" and self.trains in ("part", "all"):
            raise ValueError(f"model.dtype: bf16 is not allowed for method {self.method}, which trains in fp32")
        if model.attention == "sdpa" and self.second_derivatives:
            raise ValueError(f"model.attention: sdpa lacks second derivatives, which {self.second_derivatives} needs")
        if model.gradient_checkpointing and self.second_derivatives:
            raise ValueError(f"model.gradient_checkpointing: not with {self.second_derivatives}, which differentiates "
                             f"a gradient again")  # fmt: skip
        return self


class WithLora(RunConfig):
    """A run that trains LoRA and exports an adapter."""

    lora: Any
    retrain: LoraRetrain = LoraRetrain()
    export: ExportConfig = ExportConfig()

    at_given_ranks: ClassVar[bool] = False
    """Whether layers, ranks and k are those of the file in lora.ranks_from."""

    @property
    def modules_to_save(self) -> list[str] | None:
        found: list[str] | None = self.lora.modules_to_save
        return found

    @property
    def writes_padded(self) -> bool:
        """Whether adapter_padded/ is written; by default only for language models."""
        return self.task.headless if self.export.padded is None else self.export.padded

    @model_validator(mode="after")
    def _merges(self) -> Self:
        if self.export.merged and self.model.dtype == "nf4":
            raise ValueError("export.merged: not with model.dtype nf4, where merging rounds")
        return self


class Searching(WithLora):
    """A run that chooses its ranks, of which a verdict can judge the places."""

    verdict: VerdictConfig = VerdictConfig()


class Autolora(Searching):
    """Learned ranks: AutoLoRA's search by gradients."""

    method: Literal["autolora"] = "autolora"
    lora: LoraSettings = LoraSettings()
    search: SearchConfig = SearchConfig()
    hypergradient: Hypergradient = FirstOrder()
    answer: Answer = Shares()
    retrain: RetrainOfSearch = RetrainOfSearch()

    searches: ClassVar = "gradients"

    @cached_property
    def second_order(self) -> bool:
        """Whether the hypergradient needs second derivatives."""
        return self.hypergradient.needs_second_derivatives

    @property
    def second_derivatives(self) -> str:
        if self.answer.from_run is not None:
            return ""
        if self.second_order:
            return f"hypergradient.type {self.hypergradient.type}"
        return "study.probe" if self.study and self.study.probe else ""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        search, by_threshold = self.search, self.answer.rule == "threshold"
        if not by_threshold and (search.patience is not None or search.check_every is not None):
            raise ValueError(f"search.patience and check_every are not allowed with answer.rule {self.answer.rule}: "
                             f"only with rule threshold a search stops early")  # fmt: skip
        every, patience = search.checks
        settles = by_threshold and patience > 0 and every * (patience + 1) < search.unroll_steps
        if self.hypergradient.moves_alpha and (search.steps < search.unroll_steps or settles):
            raise ValueError(
                f"search.unroll_steps: with {search.unroll_steps} the search would end before its first outer step, "
                f"and alpha never change; allowed: fewer, or more steps (patience, check_every)"
            )
        probe = self.study.probe if self.study else None
        if probe and any(step > self.search.steps or step % self.search.unroll_steps for step in probe.steps):
            raise ValueError("study.probe.steps: allowed: multiples of search.unroll_steps, up to search.steps")
        return self


class Lora(WithLora):
    """One rank for all layers."""

    method: Literal["lora"]
    lora: LoraAtRank = LoraAtRank()
    retrain: RetrainFrom = RetrainFrom()

    recorded_rule: ClassVar[str] = "uniform"


class Adalora(WithLora):
    """PEFT's AdaLoRA."""

    method: Literal["adalora"]
    lora: LoraAtRank = LoraAtRank()

    trains: ClassVar = "own_lora"
    recorded_rule: ClassVar[str] = "adalora"


class Eva(WithLora):
    """PEFT's EVA."""

    method: Literal["eva"]
    lora: LoraOfEva = LoraOfEva()

    trains: ClassVar = "own_lora"
    recorded_rule: ClassVar[str] = "eva"


class Para(WithLora):
    """Trained at rank k, then cut to a budget."""

    method: Literal["para"]
    lora: LoraInBudget = LoraInBudget()

    trains: ClassVar = "own_lora"
    recorded_rule: ClassVar[str] = "para"


class Optuna(Searching):
    """The best ranks that TPE proposes."""

    method: Literal["optuna"]
    lora: LoraOfTrials = LoraOfTrials()

    searches: ClassVar = "trials"
    recorded_rule: ClassVar[str] = "optuna"


class LoraGrid(Searching):
    """The best of several ranks."""

    method: Literal["lora_grid"]
    lora: LoraOfGrid = LoraOfGrid()

    searches: ClassVar = "trials"
    recorded_rule: ClassVar[str] = "grid"

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.lora.target_modules == [ALL_LINEAR]:
            raise ValueError("lora.target_modules: method lora_grid tries ranks for each; allowed: names of modules")
        return self


class LoraRanks(WithLora):
    """Another run's ranks, with fresh weights."""

    method: Literal["lora_ranks"]
    lora: LoraOfRanks = Field(default_factory=dict, validate_default=True)
    retrain: RetrainFrom = RetrainFrom()

    recorded_rule: ClassVar[str] = "given"
    at_given_ranks: ClassVar[bool] = True


class Shuffled(WithLora):
    """Another run's ranks, permuted among the layers."""

    method: Literal["lora_shuffled"]
    lora: LoraShuffled = Field(default_factory=dict, validate_default=True)
    retrain: RetrainFrom = RetrainFrom()

    recorded_rule: ClassVar[str] = "shuffled"
    at_given_ranks: ClassVar[bool] = True


class Random(WithLora):
    """Random ranks."""

    method: Literal["lora_random"]
    lora: LoraRandom = LoraRandom()
    retrain: RetrainFrom = RetrainFrom()

    recorded_rule: ClassVar[str] = "random"


class _WithModules(RunConfig):
    lora: SavedModules = SavedModules()

    @property
    def modules_to_save(self) -> list[str] | None:
        return self.lora.modules_to_save


class Adapter(_WithModules):
    """Bottlenecks."""

    method: Literal["adapter"]
    adapter: AdapterSettings = AdapterSettings()

    trains: ClassVar = "part"


class Head(_WithModules):
    """Only the task head is trained; a language model has none and is evaluated untrained."""

    method: Literal["head"]

    trains: ClassVar = "head"
    always_merged: ClassVar[bool] = True


class Full(RunConfig):
    """Every weight is trained."""

    method: Literal["full"]

    trains: ClassVar = "all"
    always_merged: ClassVar[bool] = True


METHODS: dict[str, type[RunConfig]] = {
    kind.model_fields["method"].annotation.__args__[0]: kind  # type: ignore[union-attr]
    for kind in (
        Autolora, Lora, Adalora, Eva, Para, Optuna, LoraGrid, LoraRanks, Shuffled, Random, Adapter, Head, Full,
    )
}  # fmt: skip
Run = Annotated[
    Autolora | Lora | Adalora | Eva | Para | Optuna | LoraGrid | LoraRanks | Shuffled | Random | Adapter | Head | Full,
    Field(discriminator="method"),
]
RUN: TypeAdapter[RunConfig] = TypeAdapter(Run)
