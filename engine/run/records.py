"""The JSON files of a run folder; a damaged one is told in one line that names it, one that is missing is empty."""

from autolora.engine.disk.files import read_json, read_json_lines
from autolora.engine.run.folder import RunFolder

read_result = read_verdict = read_json
read_samples = read_json_lines


def parameters_per_rank(folder: RunFolder) -> dict[str, int]:
    """Layer -> LoRA parameters of one component, as the search or the trials of ranks wrote them; empty if there was
    neither."""
    found = read_json(folder.search_summary) or read_json(folder.grid_trials)
    return dict(found.get("parameters_per_rank", {}))
