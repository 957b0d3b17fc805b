"""The answer of a search as the page shows it: the numbers of its two charts, and the same numbers as tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from autolora.engine.measure.evidence import SEEN, CurvePoint, interval
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.grid import short_names
from autolora.engine.ranks.words import caution, conclusion, gain_words, kept_words, overfitting_words, parts_words
from autolora.engine.report.words import told_apart

Table = tuple[list[str], list[list[str]]]
"""The names of the columns, and the rows."""


@dataclass(frozen=True)
class Answer:
    """The answer in a record, as the page shows it.

    `conclusion`, `caution`, `gain`, `remark`, `parts`: sentences; all but `conclusion` and `gain` may be empty.
    `shares`: a row for each layer in the model's order, with `layer`, `short` (the short name), `share`, `low` and
    `high` (its 90 % interval), in `unit`, and `seen` (whether the share is above noise); empty if no shares were
    measured or LoRA learned nothing. `curve`: label -> a row for each cut, with `at` (average rank), `parameters`, and
    in percent of the gain `kept`, `low` and `high`; empty if LoRA learned nothing or its parameters are not known.
    `per_rank`: LoRA parameters of rank 1 in every layer, 0 if not known. `wanted`: percent of the gain that a rank
    must keep to be enough; above 100 if some cuts keep more than that. `parameters`: those of the recorded ranks.
    `placed_by`: the rule that chose the components on the curve of budgets. `tables`: "shares" and "curve" as tables.
    """

    conclusion: str
    caution: str
    gain: str
    remark: str
    parts: str
    shares: pd.DataFrame
    unit: str
    curve: dict[str, pd.DataFrame]
    per_rank: int
    wanted: float
    parameters: int | None
    placed_by: str
    tables: dict[str, Table]

    @property
    def by_budget(self) -> bool:
        """Whether the curve of budgets is drawn beside that of ranks."""
        return len(self.curve) > 1


KEPT_AXIS = "kept of LoRA's gain on D_val, %"
"""The axis of the curve."""


def share_axis(answer: Answer) -> str:
    """The axis of the shares."""
    return "share of what LoRA gains on D_val, %" if answer.unit == "%" else f"share, {answer.unit}"


def answer_of(record: RankRecord | None, per_rank: int) -> Answer | None:
    """The answer in a record; None if nothing was measured."""
    if record is None or record.evidence is None:
        return None
    evidence = record.evidence
    shares, unit = _shares(record)
    placed = f"placed by {evidence.budget_rule}"
    curve = {}
    if evidence.learned and per_rank:
        curve = {
            "the same rank everywhere": _cuts(evidence.rank_curve, per_rank),
            placed: _cuts(evidence.budget_curve, None),
        }
    tables = {"curve": _curve_table(record, per_rank, placed), "shares": _share_table(shares, unit)}
    return Answer(
        conclusion(record), caution(record), gain_words(evidence), overfitting_words(evidence), parts_words(evidence),
        shares, unit,
        {k: v for k, v in curve.items() if len(v)}, per_rank, round(100 * evidence.required_part(record.tolerance), 1),
        record.lora_parameters,
        evidence.budget_rule, tables,
    )  # fmt: skip


def _shares(record: RankRecord) -> tuple[pd.DataFrame, str]:
    """The shares of the layers, and their unit: percent of their sum, or nats if the sum is not positive.

    If LoRA learned nothing, there are no shares, as parts of a gain that is noise say nothing."""
    assert record.evidence is not None
    total = record.evidence.share_total
    scale, unit = (100 / total, "%") if total > 0 else (1.0, "nats")
    columns, rows = ["layer", "short", "share", "low", "high", "seen"], []
    if not record.evidence.learned:
        return pd.DataFrame(columns=columns), unit
    for short, layer in zip(short_names([x.name for x in record.layers]), record.layers, strict=True):
        share, error = layer.layer_share, layer.layer_share_standard_error
        if share is None or error is None:
            continue
        shown = 100 * layer.part_error(total) if total > 0 else error
        rows.append((layer.name, short, scale * share, *interval(scale * share, shown), share > SEEN * error))
    return pd.DataFrame(rows, columns=columns), unit


def _cuts(points: Sequence[CurvePoint], per_rank: int | None) -> pd.DataFrame:
    """A row for each cut whose number of parameters is known.

    `per_rank`: LoRA parameters of rank 1 in every layer, for the curve of ranks; None for the curve of budgets, whose
    points hold their parameters."""
    rows = []
    for point in sorted(points, key=lambda point: point.at):
        parameters = point.parameters if per_rank is None else int(point.at * per_rank)
        if parameters:
            low, high = interval(100 * point.kept, 100 * point.kept_standard_error)
            rows.append((point.at, parameters, 100 * point.kept, low, high))
    return pd.DataFrame(rows, columns=["at", "parameters", "kept", "low", "high"])


def _share_table(shares: pd.DataFrame, unit: str) -> Table:
    rows = [
        [str(row.layer), f"{row.share:.3g}", f"{row.low:.3g} to {row.high:.3g}", "yes" if row.seen else "no"]
        for row in shares.itertuples()
    ]
    return ["layer", f"share, {unit}", "90 % interval", "above noise"], rows


def _curve_table(record: RankRecord, per_rank: int, placed: str) -> Table:
    evidence = record.evidence
    assert evidence is not None
    rows = []
    points = [*evidence.rank_curve, *evidence.budget_curve]
    losses = dict(zip(points, told_apart([point.loss for point in points]), strict=True))
    for curve, what in (
        (evidence.rank_curve, "rank {:g} everywhere"),
        (evidence.budget_curve, placed + ", mean {:g}"),
    ):
        for point in curve:
            count = point.parameters if curve is evidence.budget_curve else int(point.at * per_rank) or None
            size = "" if count is None else f"{count:,}"
            rows.append([what.format(point.at), size, losses[point], _kept(point, evidence.learned)])
    return ["ranks", "LoRA parameters", "loss on D_val", "keeps of the gain (90 % interval)"], rows


def _kept(point: CurvePoint, learned: bool) -> str:
    return kept_words(point) if learned else ""
