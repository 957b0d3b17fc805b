"""What was measured of a search or an adapter on held-out rows: the curve of its cuts, and its
layers' shares."""

import math

import pandas as pd

from autolora.engine.measure.evidence import Evidence, interval
from autolora.engine.ranks import RankRecord
from autolora.engine.report import figures
from autolora.engine.report.findings import gain_words
from autolora.engine.report.page import Section
from autolora.problems.models.names import short_names

_CURVE = (
    "Each point is the model after a cut, without further training: every layer keeps the "
    "same number of its largest components, or as many as a rule places there. Lines: 90 % "
    "intervals. Dashed: what a rank must keep to be enough."
)
_SHARES = (
    "A bar is the layer's share of what LoRA gains, with its 90 % interval (1.64 standard errors)."
)


_CUTS = {
    "balanced": "the same rank everywhere",
    "plain": "the same rank, by plain SVD",
    "uneven": "placed unevenly",
}


def measured_sections(record: RankRecord, said: str, where: str = "D_val") -> list[Section]:
    """The sections of what was measured; none if nothing was. `said`: the conclusion. `where`: the
    rows."""
    evidence = record.evidence
    if evidence is None:
        return []
    title = f"What cuts keep of LoRA's gain on {where}"
    said = f"{said}\n{gain_words(evidence, where)}"
    if not evidence.learned:
        return [Section(title, note=said)]
    cuts = curve_table(evidence).replace({"cut": _CUTS})
    drawn = figures.curve(cuts, evidence.required_part(record.tolerance))
    found = [
        Section(
            title,
            cuts.assign(rank=cuts["rank"].map("{:g}".format)),
            f"{said}\n{_CURVE}",
            drawn,
            "curve",
        )
    ]
    shares = share_table(record)
    if len(shares) and evidence.share_total > 0:
        shares["layer"] = short_names(list(shares["layer"]))
        found.append(
            Section("What LoRA gains, by layer", shares, _SHARES, figures.shares(shares), "shares")
        )
    return found


def curve_table(evidence: Evidence) -> pd.DataFrame:
    """What cuts keep, a row for each: `cut`, `rank` (of budgets and uneven cuts, the average rank
    of this size), `parameters`, `loss` in nats per label, `kept` of the gain with its 90 % interval
    from `low` to `high`."""
    curves = {
        "balanced": evidence.rank_curve,
        f"placed by {evidence.budget_rule}": evidence.budget_curve,
        "plain": evidence.plain_curve,
        "uneven": evidence.uneven_curve,
    }
    rows = [
        (name, float(x.at), x.parameters, x.loss, x.kept, *interval(x.kept, x.kept_standard_error))
        for name, points in curves.items()
        for x in points
    ]
    return pd.DataFrame(rows, columns=["cut", "rank", "parameters", "loss", "kept", "low", "high"])


def share_table(record: RankRecord) -> pd.DataFrame:
    """What each layer is worth, a row for each whose share was measured: `layer`, `rank`, its
    `share` of what LoRA gains in nats per label with its `standard_error`, and `part`, the share
    divided by the sum of all, with its 90 % interval from `low` to `high`."""
    total = (record.evidence.share_total if record.evidence else 0.0) or math.nan
    rows = [
        (
            x.name,
            x.rank,
            x.layer_share,
            x.layer_share_standard_error,
            part := x.layer_share / total,
            *interval(part, x.layer_part_standard_error or 0.0),
        )
        for x in record.layers
        if x.layer_share is not None
    ]
    return pd.DataFrame(
        rows, columns=["layer", "rank", "share", "standard_error", "part", "low", "high"]
    )
