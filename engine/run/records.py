"""The JSON files of a run folder, of which a damaged one is told in one line that names it."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from autolora.configs.errors import UserError
from autolora.engine.disk.files import read_json_lines
from autolora.engine.run.folder import RunFolder

Numbers = dict[str, int | float | None]


class Record(BaseModel):
    """What readers rely on; a record has further keys."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class Result(Record):
    """metrics.json."""

    method: str
    task: str
    metrics: dict[str, float]
    lora_parameters: int
    trainable_parameters: int
    learning_rate: float | None
    peak_memory_mib: float
    seconds: Numbers
    steps: Numbers
    seed: int


class Searched(Record):
    """search/summary.json."""

    parameters_per_rank: dict[str, int]


class Trials(Record):
    """trials.json of a grid or of a sweep of learning rates."""

    trials: list[dict[str, Any]]


class Verdict(Record):
    """verdict.json."""

    ending: str
    sentence: str
    pairs: int
    arms: list[dict[str, Any]] = []


def read_result(path: Path) -> dict[str, Any]:
    """metrics.json; empty when there is no such file. Raises UserError that names a damaged one."""
    return _read(path, Result)


def read_searched(path: Path) -> dict[str, Any]:
    """search/summary.json; otherwise as `read_result`."""
    return _read(path, Searched)


def read_trials_file(path: Path) -> dict[str, Any]:
    """trials.json; otherwise as `read_result`."""
    return _read(path, Trials)


def read_verdict(path: Path) -> dict[str, Any]:
    """verdict.json; otherwise as `read_result`."""
    return _read(path, Verdict)


def read_samples(path: Path) -> list[dict[str, Any]]:
    """The lines of samples.jsonl; none when there is no such file. Raises UserError for a damaged one."""
    return read_json_lines(path)


def parameters_per_rank(folder: RunFolder) -> dict[str, int]:
    """Layer -> LoRA parameters of one component, as the search or the trials of ranks wrote them; empty if there was
    neither."""
    found = read_searched(folder.search_summary) or read_trials_file(folder.grid_trials)
    return dict(found.get("parameters_per_rank", {}))


def _read(path: Path, kind: type[Record]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8")).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (OSError, ValueError) as error:
        why = str(error)
    raise UserError(f"{path} is damaged ({why}); remove it, and the command that wrote it makes it anew")
