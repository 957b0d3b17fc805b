"""What the files of a run's folder hold, as the report shows it."""

from dataclasses import dataclass
from typing import Any

from autolora.engine import ranks
from autolora.engine.ranks import RankRecord
from autolora.engine.report.answer import Answer, answer_of
from autolora.engine.report.curves import SearchCurves, curves_of
from autolora.engine.report.verdict import VerdictShown, verdict_of
from autolora.engine.run.contents import parameters_per_rank, read_result, read_searched
from autolora.engine.run.folder import RunFolder
from autolora.engine.search import trajectory
from autolora.engine.tracking.metrics_file import MetricsFile


@dataclass(frozen=True)
class RunFiles:
    """`record`: ranks.json. `sizes`: layer -> LoRA parameters of one component. `curves`: alpha over the search.
    `search_metrics`, `retraining`: the logged points. `search`, `result`: search/summary.json and metrics.json. What
    belongs to a stage that has not run is None or empty."""

    record: RankRecord | None
    sizes: dict[str, int]
    curves: SearchCurves | None
    search_metrics: list[dict[str, Any]]
    retraining: list[dict[str, Any]]
    answer: Answer | None
    search: dict[str, Any]
    result: dict[str, Any]
    verdict: VerdictShown | None


def files_of(folder: RunFolder) -> RunFiles:
    """Reads the folder. Raises UserError that names a damaged file."""
    sizes = parameters_per_rank(folder)
    record = ranks.counted(ranks.load(folder.ranks), sizes) if folder.ranks.exists() else None
    return RunFiles(
        record=record,
        sizes=sizes,
        curves=_searched(record, folder),
        search_metrics=MetricsFile(folder.search_metrics).read() if record else [],
        retraining=MetricsFile(folder.retrain_metrics).read(),
        answer=answer_of(record, sum(sizes.values())),
        search=read_searched(folder.search_summary),
        result=read_result(folder.metrics),
        verdict=verdict_of(folder),
    )


def _searched(record: RankRecord | None, folder: RunFolder) -> SearchCurves | None:
    """The curves of the run's search; None if the run has no search."""
    if record is None or not folder.trajectory.exists():
        return None
    constraint: Any = record.constraint if record.rule == "threshold" else None
    return curves_of(trajectory.read(folder.trajectory), constraint)
