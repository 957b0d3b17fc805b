"""The JSON files of a run folder: reads them; the error about a damaged one names the file."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autolora.configs.errors import UserError
from autolora.engine.disk.files import read_json, read_json_lines
from autolora.engine.run import shapes
from autolora.engine.run.folder import RunFolder


def read_verdict(path: Path) -> dict[str, Any]:
    """verdict.json; otherwise as `read_result`."""
    return _read(path, shapes.Verdict, "remove the file, and --stage verdict writes it again")


def read_result(path: Path) -> dict[str, Any]:
    """metrics.json; empty when there is no such file. Raises UserError that names the file and the key when it is
    damaged."""
    way_out = "remove the file, and the run's command (for a cell: the study's) trains and evaluates again"
    return _read(path, shapes.Result, way_out)


def read_searched(path: Path) -> dict[str, Any]:
    """search/summary.json; otherwise as `read_result`."""
    way_out = (
        "remove the file to continue (if ranks.json exists, the results and the report then lack what the file held, "
        "such as the search's seconds and steps; if not, the search starts again)"
    )
    return _read(path, shapes.Searched, way_out)


def read_answer(path: Path) -> dict[str, Any]:
    """search/answer.json; otherwise as `read_result`."""
    way_out = "remove the file to continue; the results then lack the seconds of the measurement on D_val"
    return _read(path, shapes.Answer, way_out)


def read_trials_file(path: Path) -> dict[str, Any]:
    """grid.json or sweep.json; otherwise as `read_result`."""
    return _read(path, shapes.Trials, "remove the file, and the run's command repeats the trials that it held")


def read_fingerprint(path: Path) -> dict[str, Any]:
    """verdict/data.json; otherwise as `read_result`."""
    return _read(path, shapes.Fingerprint, "remove the file if the data has not changed since the first pair")


def read_plan(path: Path) -> int:
    """The pairs that verdict/plan.json plans; otherwise as `read_result`."""
    return int(_read(path, shapes.Plan, "--overwrite trains every pair again")["pairs"])


def read_compared(path: Path) -> dict[str, Any]:
    """probe.json of a study; otherwise as `read_result`."""
    way_out = "remove it, probe.parquet and cost.parquet, and the study's command makes the comparison again"
    return _read(path, shapes.Compared, way_out)


def read_samples(path: Path) -> list[dict[str, Any]]:
    """The lines of samples.jsonl; none when there is no such file. Raises UserError for a damaged one."""
    return _read_lines(path, shapes.Sample, "remove the file, and the report is made without it")


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


def _read(path: Path, shape: type[shapes.Part], way_out: str) -> dict[str, Any]:
    try:
        content = read_json(path)
    except UserError as error:
        raise UserError(f"{error}; {way_out}") from error
    if content or path.exists():
        _check(content, shape, f"{path}: ", way_out)
    return content


def _read_lines(path: Path, shape: type[shapes.Part], way_out: str) -> list[dict[str, Any]]:
    try:
        lines = read_json_lines(path)
    except UserError as error:
        raise UserError(f"{error}; {way_out}") from error
    for number, line in enumerate(lines, start=1):
        _check(line, shape, f"{path}: line {number}: ", way_out)
    return lines


def _check(content: Any, shape: type[shapes.Part], where: str, way_out: str) -> None:
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
