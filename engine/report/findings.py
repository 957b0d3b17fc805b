"""The ranks and what was measured in words, for the terminal, the report and a script; all of it
from the record."""

import math
from collections.abc import Iterator

from autolora.engine.measure.evidence import CurvePoint, Evidence, interval
from autolora.engine.ranks.record import NOTHING_LEARNED, RankRecord
from autolora.problems.models.names import short_names

LONGEST_BAR = 24
"""Letters of the bar of the largest share."""


def conclusion(record: RankRecord) -> str:
    """Which rank is enough, in one sentence; "" if nothing was measured."""
    evidence = record.evidence
    k = record.k
    if evidence is None:
        return ""
    if not evidence.learned:
        return (
            f"{NOTHING_LEARNED}: its gain is {evidence.gain:.3g} +- "
            f"{evidence.gain_standard_error:.2g} nats"
        )
    enough = evidence.sufficient_rank(record.tolerance)
    lost = (
        f"{100 * record.tolerance:g} % of "
        f"{'what the best rank gains' if evidence.overfitted else 'the gain'}"
    )
    if enough is None:
        said = f"no rank on the curve is enough: each may lose more than {lost}"
    elif enough == k:
        said = f"no rank below {k} (lora.k) is enough, and a rank above {k} may keep more"
    else:
        said = (
            f"rank {enough} is enough: cut to it, the searched model loses at most {lost}; a "
            "training may need more"
        )
    return ", though ".join(filter(None, (said, evidence.few)))


def ranks_words(record: RankRecord) -> str:
    """By which rule, and within which budget, the ranks were chosen, and their mean."""
    budget = "" if record.budget is None else f", within {record.budget:,} LoRA parameters"
    return f"ranks ({record.rule}{budget}), mean {record.mean_in_words}"


def gain_words(evidence: Evidence, rows: str = "D_val") -> str:
    """A sentence about LoRA's effect on the loss on these rows."""
    verb = "lowers" if evidence.gain > 0 else "raises"
    before = evidence.loss + evidence.gain
    return (
        f"LoRA {verb} the loss on {rows} from {before:z.3f} ({evidence.without}) to "
        f"{evidence.loss:z.3f}."
    )


def kept_words(point: CurvePoint) -> str:
    """The part of the gain that a cut keeps, in percent, with its 90 % interval."""
    if point.kept <= 0:
        return "nothing"
    low, high = [100 * limit for limit in interval(point.kept, point.kept_standard_error)]
    # Rounded down, as 94.7 must not be printed as the 95 that a rank needs to be called enough;
    # 94.96 may be.
    limits = (
        f" ({math.floor(max(0.0, low) + 0.05)} to {high:.0f})"
        if point.kept_standard_error > 0
        else ""
    )
    return f"{100 * point.kept:.0f} %{limits}"


def measured_lines(record: RankRecord) -> Iterator[str]:
    """The gain, the curve, which rank is enough, and the shares; no lines if nothing was
    measured."""
    if record.evidence is not None:
        yield gain_words(record.evidence)
        yield from curve_lines(record)
        yield f"-> {conclusion(record)}"
        yield from share_lines(record)


def share_lines(record: RankRecord, most: int = 12) -> Iterator[str]:
    """A line for each of the `most` layers with the largest shares above noise, in percent of the
    sum; no lines if LoRA has learned nothing."""
    evidence = record.evidence
    if evidence is None or not evidence.learned or evidence.share_total <= 0:
        return
    named = zip(short_names(list(record.ranks)), record.layers, strict=True)
    parts = [
        (100 * (x.layer_share or 0) / evidence.share_total, name, x) for name, x in named if x.seen
    ]
    shown = sorted(parts, key=lambda one: -one[0])[:most]
    width = max([5, *(len(name) for _, name, _ in shown)])
    yield f"{'layer':<{width}}  share of what LoRA gains, +- standard error"
    for part, name, layer in shown:
        error = 100 * (layer.layer_part_standard_error or 0.0)
        bar = "#" * max(1, round(LONGEST_BAR * part / shown[0][0]))
        yield f"{name:<{width}}  {part:3.0f} % +- {f'{error:.2g}':<4} {bar}"
    if more := len(record.layers) - len(shown):
        noise = len(record.layers) - len(parts)
        yield f"{'...':<{width}}  {more} more layers, {noise} of them without a share above noise"


def curve_lines(record: RankRecord) -> Iterator[str]:
    """A line for each rank, with what it keeps of the gain, and one for the budgets; no lines if
    LoRA has learned nothing."""
    evidence = record.evidence
    if evidence is None or not evidence.learned:
        return
    plain = {point.at: kept_words(point) for point in evidence.plain_curve}
    yield f"{'rank':>4} {'parameters':>11}   keeps of that (90 % interval)   cut by plain SVD"
    for point in evidence.rank_curve:
        yield (
            f"{point.at:4g} {point.parameters:11,}   {kept_words(point):<29}   "
            f"{plain.get(point.at, '')}".rstrip()
        )
    budgets = [
        f"{point.at:g} ({point.parameters:,} parameters) {kept_words(point)}"
        for point in evidence.budget_curve
    ]
    if budgets:
        yield f"placed by {evidence.budget_rule}, an average rank keeps: {', '.join(budgets)}"
