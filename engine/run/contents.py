"""The JSON files of a run folder: reads them; the error about a damaged one names the file."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from configs.errors import UserError
from engine.disk.files import read_json, read_json_lines
from engine.run.folder import RunFolder

Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Part(BaseModel):
    """What the program reads of a JSON object: a value of a wrong type is refused, unknown keys are allowed."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Seconds(_Part):
    search: Amount | None = None
    answer: Amount | None = None
    retrain: Amount | None = None
    total: Amount


class _Steps(_Part):
    search: Count | None = None
    retrain: Count | None = None


class _Rows(_Part):
    rows: Count
    sha256: str


class _Fingerprint(_Part):
    """The fingerprint of a run's rows (problems/fingerprint.py)."""

    classes: list[str]
    training: _Rows
    evaluation_rows: Count | None
    evaluation: dict[str, _Rows]
    unused: _Rows | None = None
    source: _Rows | None = None
    weights: str | None = None


class _Plan(_Part):
    """verdict/plan.json."""

    pairs: Count


class _Machine(_Part):
    device: str
    name: str = ""
    precision: str
    weights: str
    processes: Count = 1


class _Result(_Part):
    """metrics.json; its readers rely on the keys without a default."""

    method: str
    task: str
    split: str
    metrics: dict[str, float] = Field(min_length=1)
    lora_parameters: Count
    trainable_parameters: Count
    learning_rate: Amount | None
    peak_memory_mib: Amount
    seconds: _Seconds
    steps: _Steps
    seed: int
    settings: dict[str, Any]
    evaluated_on: str = ""
    evaluated_rows: Count = 0
    standard_error: Amount | None = None
    loss: float | None = None
    calibrated_loss: float | None = None
    seconds_evaluation: Amount = 0.0
    seconds_sweep: Amount = 0.0
    machine: _Machine | None = None
    ended: str | None = None
    versions: dict[str, str] = {}
    commit: str | None = None
    base_weights: str | None = None
    data: _Fingerprint | None = None
    source_ranks: dict[str, Any] | None = None
    trained_ranks: dict[str, Count] | None = None
    source_components: str | None = None


class _Peft(_Part):
    modules_to_save: list[str] = []
    fan_in_fan_out: bool = False


class _Searched(_Part):
    """search/summary.json."""

    steps: Count | None = None
    seconds: Amount | None = None
    peak_memory_mib: Amount = 0.0
    parameters_per_rank: dict[str, Count]
    passes: dict[str, Count] = {}
    stopped: str = ""
    peft: _Peft = _Peft()
    settings: dict[str, Any] = {}
    data: _Fingerprint | None = None


class _Answer(_Part):
    """search/answer.json; `ranks`: those that the rule chose."""

    seconds: Amount = 0.0
    ranks: dict[str, Count] = {}
    settings: dict[str, Any] = {}


class _Trial(_Part):
    tried: dict[str, float]
    metrics: dict[str, float]
    steps: Count
    seconds: Amount


class _Trials(_Part):
    """grid.json and sweep.json."""

    chosen: dict[str, float] = {}
    trials: list[_Trial] = []
    parameters_per_rank: dict[str, Count] = {}
    settings: dict[str, Any] = {}
    data: _Fingerprint | None = None
    ranks: dict[str, Any] | None = None


class _Arm(_Part):
    name: str
    losses: list[float] = Field(min_length=1)
    scores: list[float] = []
    parameters: Count
    difference: float | None = None
    interval: Interval | None = None
    p: float | None = None


class _Verdict(_Part):
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
    arms: list[_Arm] = []

    @field_validator("arms")
    @classmethod
    def _compared_pair_by_pair(cls, arms: list[_Arm]) -> list[_Arm]:
        """Refuses an arm with more pairs than the first, the learned ranks, with which it is compared."""
        if any(len(arm.losses) > len(arms[0].losses) for arm in arms):
            raise ValueError("an arm has more losses than the first")
        return arms


class _LoraConfig(_Part):
    """lora_config/adapter_config.json, as PEFT writes it."""

    task_type: str | None
    base_model_name_or_path: str | None
    r: Count
    lora_alpha: Amount
    lora_dropout: Amount
    target_modules: list[str] | str
    modules_to_save: list[str] | None
    rank_pattern: dict[str, Count]
    alpha_pattern: dict[str, Amount]
    fan_in_fan_out: bool


class _Turn(_Part):
    role: str
    content: str


class _Sample(_Part):
    """A line of samples.jsonl."""

    prompt: list[_Turn]
    answer: str
    reference: str


class _Prediction(_Part):
    """A line of predictions.jsonl."""

    prompt: str
    prompt_ids: list[int]


def read_verdict(path: Path) -> dict[str, Any]:
    """verdict.json; otherwise as `read_result`."""
    return _read(path, _Verdict, "remove the file, and --stage verdict writes it again")


def read_result(path: Path) -> dict[str, Any]:
    """metrics.json; empty when there is no such file. Raises UserError that names the file and the key when it is
    damaged."""
    way_out = "remove the file, and the run's command (for a cell: the study's) trains and evaluates again"
    return _read(path, _Result, way_out)


def read_searched(path: Path) -> dict[str, Any]:
    """search/summary.json; otherwise as `read_result`."""
    way_out = (
        "remove the file to continue (if ranks.json exists, the results and the report then lack what the file held, "
        "such as the search's seconds and steps; if not, the search starts again)"
    )
    return _read(path, _Searched, way_out)


def read_answer(path: Path) -> dict[str, Any]:
    """search/answer.json; otherwise as `read_result`."""
    way_out = "remove the file to continue; the results then lack the seconds of the measurement on D_val"
    return _read(path, _Answer, way_out)


def read_trials_file(path: Path) -> dict[str, Any]:
    """grid.json or sweep.json; otherwise as `read_result`."""
    return _read(path, _Trials, "remove the file, and the run's command repeats the trials that it held")


def read_fingerprint(path: Path) -> dict[str, Any]:
    """verdict/data.json; otherwise as `read_result`."""
    return _read(path, _Fingerprint, "remove the file if the data has not changed since the first pair")


def read_plan(path: Path) -> int:
    """The pairs that verdict/plan.json plans; otherwise as `read_result`."""
    return int(_read(path, _Plan, "--overwrite trains every pair again")["pairs"])


def read_lora_config(path: Path) -> dict[str, Any]:
    """lora_config/adapter_config.json; otherwise as `read_result`."""
    return _read(path, _LoraConfig, "the run's command with --stage search --export.untrained true writes it again")


def read_samples(path: Path) -> list[dict[str, Any]]:
    """The lines of samples.jsonl; none when there is no such file. Raises UserError for a damaged one."""
    return _read_lines(path, _Sample, "remove the file, and the report is made without it")


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """The lines of predictions.jsonl; otherwise as `read_samples`."""
    return _read_lines(path, _Prediction, "remove the file, and adapter/README.md is written without an example")


def read_choice(folder: RunFolder) -> dict[str, Any]:
    """What chose the run's ranks: search/summary.json or, of trials of ranks, grid.json; empty if there is neither."""
    return read_searched(folder.search_summary) or read_trials_file(folder.grid)


def parameters_per_rank(folder: RunFolder) -> dict[str, int]:
    """Layer -> LoRA parameters of one component, as the search or the trials of ranks wrote them; empty if there was
    neither."""
    return dict(read_choice(folder).get("parameters_per_rank", {}))


def data_of_ranks(folder: RunFolder) -> dict[str, Any]:
    """The fingerprint of the rows, and the digest of the base model, with which the run's ranks were chosen; empty if
    neither a search nor trials chose them."""
    return dict(read_choice(folder).get("data") or {})


def _read(path: Path, shape: type[_Part], way_out: str) -> dict[str, Any]:
    try:
        content = read_json(path)
    except UserError as error:
        raise UserError(f"{error}; {way_out}") from error
    if content or path.exists():
        _check(content, shape, f"{path}: ", way_out)
    return content


def _read_lines(path: Path, shape: type[_Part], way_out: str) -> list[dict[str, Any]]:
    try:
        lines = read_json_lines(path)
    except UserError as error:
        raise UserError(f"{error}; {way_out}") from error
    for number, line in enumerate(lines, start=1):
        _check(line, shape, f"{path}: line {number}: ", way_out)
    return lines


def _check(content: Any, shape: type[_Part], where: str, way_out: str) -> None:
    """Raises UserError, which begins with `where`, if `content` does not have this shape."""
    try:
        shape.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise UserError(f"{where}{key} is missing; {way_out}") from error
        where += f"{key}: " if key else ""
        raise UserError(f"{where}{first['msg']}, holds {first['input']!r:.60}; {way_out}") from error
