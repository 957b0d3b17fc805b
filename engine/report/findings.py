"""The ranks and what was measured in words, for the terminal and the report; all of it is printed from the record."""

import math
import textwrap
from collections.abc import Iterator

from autolora.engine.measure.evidence import CurvePoint, Evidence, interval
from autolora.engine.ranks.record import NOTHING_LEARNED, RankRecord
from autolora.problems.models.names import short_names

WIDEST_LINE = 76
"""Letters of a line of the list of shares."""
LONGEST_BAR = 24
"""Letters of the bar of the largest share."""


def conclusion(record: RankRecord) -> str:
    """Which rank is enough, in one sentence; "" if nothing was measured."""
    evidence, k = record.evidence, record.k
    if evidence is None:
        return ""
    if not evidence.learned:
        gain = f"its gain is {evidence.gain:.3g} +- {evidence.gain_standard_error:.2g} nats"
        return f"{NOTHING_LEARNED}: {gain}"
    enough = evidence.sufficient_rank(record.tolerance)
    lost = f"{100 * record.tolerance:g} % of {'what the best rank gains' if evidence.overfitted else 'the gain'}"
    if enough is None:
        said = f"no rank on the curve is enough: each may lose more than {lost}"
    elif enough == k:
        said = f"no rank below {k} (lora.k) is enough, and a rank above {k} may keep more"
    else:
        said = f"rank {enough} is enough: cut to it, the searched model loses at most {lost}"
    return ", though ".join(filter(None, (said, evidence.few)))


def caution(record: RankRecord) -> str:
    """That a training may need a higher rank than the one called enough; "" if no rank below k is enough."""
    enough = record.evidence.sufficient_rank(record.tolerance) if record.evidence else None
    return "a training may need a higher rank" if enough is not None and enough < record.k else ""


def how_chosen(record: RankRecord, per_rank: int) -> str:
    """By which rule, and within which budget, the ranks were chosen, to follow the word "ranks"; "" for a record
    written by hand, and where the record's note tells it.

    `per_rank`: LoRA parameters of rank 1 in every layer, 0 if not known."""
    if not record.searched or (record.note and record.all_equal):
        return ""
    if record.rule == "threshold":
        bound = "the threshold" if record.threshold is None else f"lambda = {record.threshold:.3f}"
        return f"by the paper's rule (components whose alpha reaches {bound})"
    if record.budget is None:
        return f"by {record.rule}, without a budget"
    size = f" (as many as rank {record.budget / per_rank:g} in every layer)" if per_rank else ""
    return f"by {record.rule}, within {record.budget:,} LoRA parameters{size}"


def gain_words(evidence: Evidence, rows: str = "D_val") -> str:
    """A sentence about LoRA's effect on the loss on these rows."""
    verb, before = "lowers" if evidence.gain > 0 else "raises", evidence.loss + evidence.gain
    return f"LoRA {verb} the loss on {rows} from {before:z.3f} ({evidence.without}) to {evidence.loss:z.3f}."


def kept_words(point: CurvePoint) -> str:
    """The part of the gain that a cut keeps, in percent, with its 90 % interval."""
    if point.kept <= 0:
        return "nothing"
    low, high = (100 * limit for limit in interval(point.kept, point.kept_standard_error))
    # Rounded down, as 94.7 must not be printed as the 95 that a rank needs to be called enough; 94.96 may be.
    limits = f" ({math.floor(max(0.0, low) + 0.05)} to {high:.0f})" if point.kept_standard_error > 0 else ""
    return f"{100 * point.kept:.0f} %{limits}"


def share_lines(record: RankRecord, most: int = 12) -> Iterator[str]:
    """A line for each of the `most` layers with the largest shares above noise, in percent of the sum, and one for the
    rest; no lines if LoRA has learned nothing."""
    evidence = record.evidence
    if evidence is None or not evidence.learned or evidence.share_total <= 0:
        return
    total, names = evidence.share_total, short_names(list(record.ranks))
    seen = [(x.layer_share or 0.0, name, x) for name, x in zip(names, record.layers, strict=True) if x.seen]
    shown = sorted(seen, key=lambda one: -one[0])[:most]
    width = max([5, *(len(name) for _, name, _ in shown)])
    yield f"{'layer':<{width}}  share of what LoRA gains, +- standard error"
    for share, name, layer in shown:
        error, bar = 100 * layer.part_error(total), "#" * max(1, round(LONGEST_BAR * share / shown[0][0]))
        yield f"{name:<{width}}  {100 * share / total:3.0f} % +- {f'{error:.2g}':<4} {bar}"
    if more := len(record.layers) - len(shown):
        silent = len(record.layers) - len(seen)
        yield f"{'...':<{width}}  {more} more layers, {silent} of them without a share above noise"
    if words := parts_words(evidence):
        yield from textwrap.wrap(f"({words})", WIDEST_LINE)


def parts_words(evidence: Evidence) -> str:
    """How the fall of the loss divides between LoRA and the head; "" if the base model has no head to train, or if the
    loss does not fall.

    The head's part can be negative: without LoRA its searched weights may be worse than those trained alone. The fall
    differs from the gain, as it is measured at one temperature for both models."""
    if evidence.without != "head alone" or evidence.fall <= 0:
        return ""
    lora, head = (round(100 * part / evidence.fall) for part in (evidence.share_total, evidence.head_share))
    return (
        f"from the head alone to the searched model the loss falls by {evidence.fall:.3f} nats if both have one "
        f"temperature; {lora} % of this is LoRA's, {head} % the head's"
    )


def curve_lines(record: RankRecord) -> Iterator[str]:
    """A line with what each rank keeps of the gain, and one for the budgets; no lines if LoRA has learned nothing."""
    evidence = record.evidence
    if evidence is None or not evidence.learned:
        return
    first, *more = evidence.rank_curve
    ranks = [f"rank {first.at:g} everywhere keeps {kept_words(first)} of that"]
    yield ", ".join([*ranks, *(f"rank {point.at:g} {kept_words(point)}" for point in more)])
    if by_svd := [f"rank {point.at:g} {kept_words(point)}" for point in evidence.plain_curve[:-1]]:
        yield f"cut by plain SVD, {', '.join(by_svd)}"
    budgets = [
        f"{point.at:g} ({point.parameters or 0:,}{' parameters) keeps' if i == 0 else ')'} {kept_words(point)}"
        for i, point in enumerate(evidence.budget_curve)
    ]
    if budgets:
        yield f"placed by {evidence.budget_rule}, an average rank of {', '.join(budgets)}"
    if words := overfitting_words(evidence):
        yield f"({words})"


def overfitting_words(evidence: Evidence) -> str:
    """What it means that a cut surely keeps more than the whole gain; "" if none does."""
    words = (
        "some cuts keep more than 100 %: the searched model is over-fitted, and does better on D_val when cut; a "
        "training on more rows may use a higher rank"
    )
    return words if evidence.overfitted else ""
