"""What was measured of a search or an adapter on held-out rows: the curve of its cuts, and its layers' shares."""

from collections.abc import Callable

import pandas as pd

from autolora.engine.measure.evidence import interval
from autolora.engine.ranks import RankRecord
from autolora.engine.report import figures
from autolora.engine.report.findings import gain_words
from autolora.engine.report.page import Section
from autolora.problems.models.names import short_names

Size = Callable[[float], int | None]
"""A rank in every layer -> its LoRA parameters, None if they are not known."""

_CURVE = (
    "Each point is the model after a cut, without further training: every layer keeps the same number of its largest "
    "components, or as many as a rule places there. Lines: 90 % intervals. Dashed: what a rank must keep to be enough."
)
_SHARES = "A bar is the layer's share of what LoRA gains, with its 90 % interval (1.64 standard errors)."


def answer_sections(record: RankRecord, size: Size, said: str, where: str = "D_val") -> list[Section]:
    """The sections of what was measured; none if nothing was. `said`: the conclusion. `where`: the rows."""
    evidence = record.evidence
    if evidence is None:
        return []
    title, said = f"What cuts keep of LoRA's gain on {where}", f"{said}\n{gain_words(evidence, where)}"
    if not evidence.learned:
        return [Section(title, note=said)]
    cuts = _cuts(record, size)
    drawn = figures.curve(cuts, evidence.required_part(record.tolerance))
    found = [Section(title, cuts.assign(rank=cuts["rank"].map("{:g}".format)), f"{said}\n{_CURVE}", drawn, "curve")]
    if len(shares := _shares(record)):
        found.append(Section("What LoRA gains, by layer", shares, _SHARES, figures.shares(shares), "shares"))
    return found


def _cuts(record: RankRecord, size: Size) -> pd.DataFrame:
    """A row for each cut."""
    evidence = record.evidence
    assert evidence is not None
    curves = {
        "the same rank everywhere": evidence.rank_curve,
        f"placed by {evidence.budget_rule}": evidence.budget_curve,
        "the same rank, by plain SVD": evidence.plain_curve,
        "placed unevenly": evidence.uneven_curve,
    }
    rows = [
        (name, point.at, size(point.at) if point.parameters is None else point.parameters, point.loss, point.kept,
         *interval(point.kept, point.kept_standard_error))
        for name, points in curves.items() for point in points
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["cut", "rank", "parameters", "loss", "kept", "low", "high"])


def _shares(record: RankRecord) -> pd.DataFrame:
    """A row for each layer whose share was measured, in parts of their sum; none if that is not positive."""
    total, rows = record.evidence.share_total if record.evidence else 0.0, []
    for name, layer in zip(short_names(list(record.ranks)), record.layers, strict=True):
        if layer.layer_share is not None and total > 0:
            share = layer.layer_share / total
            rows.append((name, layer.rank, share, *interval(share, layer.part_error(total))))
    return pd.DataFrame(rows, columns=["layer", "rank", "share", "low", "high"])
