"""A run: what all runs have, and a class for each method, with the keys that it reads and what is
true of it."""

from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, TypeAdapter, model_validator

from autolora.configs.measure import LEAST_ROWS, ChooseConfig, MeasureConfig, Shares
from autolora.configs.search import FirstOrder, Hypergradient, ProbeConfig, SearchConfig
from autolora.configs.section import FilePath, Name, Section, Seed
from autolora.configs.study import StudyConfig, VerdictConfig
from autolora.configs.tasks import AnyTask, Table
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
    LoraWide,
    ModelConfig,
    RetrainConfig,
    RetrainFrom,
    RetrainOfSearch,
    RetrainWide,
    SavedModules,
    TrackingConfig,
)

Stage = Literal["all", "search", "retrain", "evaluate", "report", "verdict", "probe"]


class Sources(Section):
    """What is read, and how it is computed with: rows, a base model, a device."""

    seed: Seed = 0
    """Seed of all random numbers: split, order of the data, weights, dropout."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the arithmetic in search and training; evaluation and decoding use the precision
    of the weights (model.dtype). auto: bf16 if the processor or GPU supports it in hardware."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: cuda if there is one, else mps, else cpu."""
    model: ModelConfig = ModelConfig()
    task: AnyTask = Table()

    @property
    def data_seed(self) -> int:
        """The seed for draws from the data: held-out rows, train_rows, D_tr and D_val."""
        return self.seed if self.task.seed is None else self.task.seed


class RunConfig(Sources):
    """What every run has: its sources, its folder, and a training."""

    trains: ClassVar[Literal["lora", "own_lora", "part", "all", "head"]] = "lora"
    """lora: plain LoRA at ranks that are known before the training; own_lora: LoRA in a way of the
    method's own; part: some weights inside the base model's blocks; all: every weight; head:
    nothing inside the blocks."""
    searches: ClassVar[Literal["gradients", "trials"] | None] = None
    """How its ranks are searched on D_val: trials are trainings at several choices of ranks."""

    name: Name | None = None
    """Name of the run's folder in runs_folder; null: the config file's name (in a wandb sweep with
    the id of the trial behind it)."""
    runs_folder: FilePath = "runs"
    """Folder that holds the runs."""
    method: str
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
        """Whether anything inside the base model's blocks is trained; else gradient checkpointing
        saves no memory."""
        return self.trains != "head"

    @property
    def evaluates_base(self) -> bool:
        """Whether a run only evaluates the base model: method head trains nothing if the model has
        no head."""
        return self.task.headless and not self.of_lora("modules_to_save") and not self.trains_blocks

    def of_lora(self, key: str) -> Any:
        """The value of a key of the section lora; None for a method without it."""
        return getattr(getattr(self, "lora", None), key, None)

    @property
    def sweeps(self) -> bool:
        """Whether the learning rate is chosen among several."""
        return len(self.retrain.rates) > 1 and not self.evaluates_base

    @property
    def evaluation_batch(self) -> int:
        """Examples per batch if no gradient is computed."""
        return self.retrain.eval_batch_size or (
            self.retrain.batch_size if self.task.headless else 64
        )


class WithLora(RunConfig):
    """A run that trains LoRA and exports an adapter."""

    lora: Any
    retrain: LoraRetrain = LoraRetrain()
    export: ExportConfig = ExportConfig()

    @property
    def writes_padded(self) -> bool:
        """Whether adapter_padded/ is written; by default only for language models."""
        return self.task.headless if self.export.padded is None else self.export.padded


class Searching(WithLora):
    """A run that chooses its ranks, of which a verdict can judge the places."""

    verdict: VerdictConfig = VerdictConfig()


class Autolora(Searching):
    """Learned ranks: AutoLoRA's search by gradients."""

    method: Literal["autolora"] = "autolora"
    lora: LoraSettings = LoraSettings()
    search: SearchConfig = SearchConfig()
    hypergradient: Hypergradient = FirstOrder()
    measure: MeasureConfig = MeasureConfig()
    choose: ChooseConfig = Shares()
    probe: ProbeConfig = ProbeConfig()
    retrain: RetrainOfSearch = RetrainOfSearch()

    searches: ClassVar = "gradients"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        search = self.search
        if self.hypergradient.moves_alpha and search.steps < search.unroll_steps:
            raise ValueError(
                f"search.unroll_steps: {search.unroll_steps} are more than search.steps, so "
                "that alpha would never change"
            )
        if (
            self.model.attention == "sdpa"
            and self.measure.from_run is None
            and self.hypergradient.second_order
        ):
            raise ValueError(
                f"model.attention: sdpa lacks second derivatives, which hypergradient.type "
                f"{self.hypergradient.type} needs"
            )
        rows = self.measure.rows
        measures = rows > 0 or self.choose.needs_evidence
        if self.measure.from_run is None and measures and rows < LEAST_ROWS:
            raise ValueError(
                f"measure.rows: {rows} are too few to measure on D_val; allowed: {LEAST_ROWS} or "
                "more"
            )
        return self


class Lora(WithLora):
    """One rank for all layers."""

    method: Literal["lora"]
    lora: LoraAtRank = LoraAtRank()
    retrain: RetrainFrom = RetrainFrom()


class Adalora(WithLora):
    """PEFT's AdaLoRA."""

    method: Literal["adalora"]
    lora: LoraAtRank = LoraAtRank()

    trains: ClassVar = "own_lora"


class Eva(WithLora):
    """PEFT's EVA."""

    method: Literal["eva"]
    lora: LoraOfEva = LoraOfEva()

    trains: ClassVar = "own_lora"


class Para(WithLora):
    """Trained at rank k, then cut to a budget."""

    method: Literal["para"]
    lora: LoraInBudget = LoraInBudget()

    trains: ClassVar = "own_lora"


class Wide(WithLora):
    """Trained at rank k, cut by held-out rows, and trained on."""

    method: Literal["wide"]
    lora: LoraWide = LoraWide()
    retrain: RetrainWide = RetrainWide()

    trains: ClassVar = "own_lora"


class Optuna(Searching):
    """The best ranks that TPE proposes."""

    method: Literal["optuna"]
    lora: LoraOfTrials = LoraOfTrials()

    searches: ClassVar = "trials"


class LoraGrid(Searching):
    """The best of several ranks."""

    method: Literal["lora_grid"]
    lora: LoraOfGrid = LoraOfGrid()

    searches: ClassVar = "trials"


class LoraRanks(WithLora):
    """Another run's ranks, with fresh weights."""

    method: Literal["lora_ranks"]
    lora: LoraOfRanks = Field(default_factory=dict, validate_default=True)
    retrain: RetrainFrom = RetrainFrom()


class Shuffled(WithLora):
    """Another run's ranks, permuted among the layers."""

    method: Literal["lora_shuffled"]
    lora: LoraOfRanks = Field(default_factory=dict, validate_default=True)
    retrain: RetrainFrom = RetrainFrom()


class Random(WithLora):
    """Random ranks."""

    method: Literal["lora_random"]
    lora: LoraRandom = LoraRandom()
    retrain: RetrainFrom = RetrainFrom()


class Adapter(RunConfig):
    """Bottlenecks."""

    method: Literal["adapter"]
    lora: SavedModules = SavedModules()
    adapter: AdapterSettings = AdapterSettings()

    trains: ClassVar = "part"


class Head(RunConfig):
    """Only the task head is trained; a language model has none and is evaluated untrained."""

    method: Literal["head"]
    lora: SavedModules = SavedModules()

    trains: ClassVar = "head"


class Full(RunConfig):
    """Every weight is trained."""

    method: Literal["full"]

    trains: ClassVar = "all"


Run = Annotated[
    Autolora
    | Lora
    | Adalora
    | Eva
    | Para
    | Wide
    | Optuna
    | LoraGrid
    | LoraRanks
    | Shuffled
    | Random
    | Adapter
    | Head
    | Full,
    Field(discriminator="method"),
]
RUN: TypeAdapter[RunConfig] = TypeAdapter(Run)


METHODS: dict[str, type[RunConfig]] = {
    get_args(kind.model_fields["method"].annotation)[0]: kind for kind in get_args(get_args(Run)[0])
}
