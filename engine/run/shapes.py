"""The shapes of a run folder's JSON files, which `engine/run/contents.py` reads: their keys, and types of values."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class Part(BaseModel):
    """What the program reads of a JSON object: a value of a wrong type is refused, unknown keys are allowed."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Seconds(Part):
    search: Amount | None = None
    answer: Amount | None = None
    retrain: Amount | None = None
    total: Amount


class Steps(Part):
    search: Count | None = None
    retrain: Count | None = None


class Rows(Part):
    rows: Count
    sha256: str


class Fingerprint(Part):
    """The fingerprint of a run's rows (problems/fingerprint.py)."""

    classes: list[str]
    training: Rows
    evaluation_rows: Count | None
    evaluation: dict[str, Rows]
    unused: Rows | None = None
    source: Rows | None = None
    weights: str | None = None


class Plan(Part):
    """verdict/plan.json."""

    pairs: Count


class Machine(Part):
    device: str
    name: str = ""
    precision: str
    weights: str
    processes: Count = 1


class Result(Part):
    """metrics.json; its readers rely on the keys without a default."""

    method: str
    task: str
    split: str
    metrics: dict[str, float] = Field(min_length=1)
    lora_parameters: Count
    trainable_parameters: Count
    learning_rate: Amount | None
    peak_memory_mib: Amount
    seconds: Seconds
    steps: Steps
    seed: int
    settings: dict[str, Any]
    evaluated_on: str = ""
    evaluated_rows: Count = 0
    standard_error: Amount | None = None
    loss: float | None = None
    calibrated_loss: float | None = None
    seconds_evaluation: Amount = 0.0
    seconds_sweep: Amount = 0.0
    machine: Machine | None = None
    ended: str | None = None
    versions: dict[str, str] = {}
    commit: str | None = None
    base_weights: str | None = None
    data: Fingerprint | None = None
    source_ranks: dict[str, Any] | None = None
    trained_ranks: dict[str, Count] | None = None
    source_components: str | None = None


class Peft(Part):
    modules_to_save: list[str] = []
    fan_in_fan_out: bool = False


class Searched(Part):
    """search/summary.json; `taken_from`: the run whose search this is (--answer.from), if it is another one."""

    steps: Count | None = None
    seconds: Amount | None = None
    peak_memory_mib: Amount = 0.0
    parameters_per_rank: dict[str, Count]
    passes: dict[str, Count] = {}
    stopped: str = ""
    peft: Peft = Peft()
    settings: dict[str, Any] = {}
    data: Fingerprint | None = None
    taken_from: str | None = None


class Answer(Part):
    """search/answer.json."""

    seconds: Amount = 0.0
    settings: dict[str, Any] = {}


class Trial(Part):
    tried: dict[str, float]
    metrics: dict[str, float]
    steps: Count
    seconds: Amount


class Trials(Part):
    """grid.json and sweep.json."""

    chosen: dict[str, float] = {}
    trials: list[Trial] = []
    parameters_per_rank: dict[str, Count] = {}
    settings: dict[str, Any] = {}
    data: Fingerprint | None = None
    ranks: dict[str, Any] | None = None


class Arm(Part):
    name: str
    losses: list[float] = Field(min_length=1)
    scores: list[float] = []
    parameters: Count
    difference: float | None = None
    interval: Interval | None = None
    p: float | None = None


class Verdict(Part):
    """verdict.json."""

    ending: str
    sentence: str
    pairs: Count
    recommendation: str
    notes: list[str] = []
    difference: float | None = None
    interval: Interval | None = None
    gain: float | None = None
    metric: str = ""
    arms: list[Arm] = []

    @field_validator("arms")
    @classmethod
    def _compared_pair_by_pair(cls, arms: list[Arm]) -> list[Arm]:
        """Refuses an arm with more pairs than the first, the learned ranks, with which it is compared."""
        if any(len(arm.losses) > len(arms[0].losses) for arm in arms):
            raise ValueError("an arm has more losses than the first")
        return arms


class Compared(Part):
    """probe.json of a study: what its comparison of hypergradients was made with."""

    settings: dict[str, Any] = {}
    own: list[str] = []
    data: Fingerprint | None = None
    timed_on: str = ""


class Turn(Part):
    role: str
    content: str


class Sample(Part):
    """A line of samples.jsonl."""

    prompt: list[Turn]
    answer: str
    reference: str
