"""The answer in words, for the terminal and the report: which rank is enough, and what LoRA in each layer is worth."""

import math
import textwrap
from collections.abc import Iterator

from autolora.engine.measure.evidence import ONE_SIDED, CurvePoint, Evidence, interval
from autolora.engine.ranks.grid import short_names
from autolora.engine.ranks.record import LayerRank, RankRecord

NOTHING_LEARNED = "LoRA has not learned anything that shows on D_val"
HARDLY_LEARNED = "LoRA lowers the loss on D_val by less than 1 %"
"""evidence.SLIGHT in words."""
NOTEWORTHY = 1.01
"""A cut that keeps less than this part of the gain is not called better than the whole model, however sure it is."""
WIDEST_LINE = 76
"""Letters of a line of the list of shares."""
LONGEST_BAR = 24
"""Letters of the bar of the largest share."""
_WHOLE = 0.05
"""A lower limit that is less than this below a whole number of percent is printed as that number."""
_DECIMALS = range(3, 7)
"""Decimals of a loss: the fewest that show what there is to see."""


def conclusion(record: RankRecord) -> str:
    """Which rank is enough, in one sentence; "" if nothing was measured."""
    evidence = record.evidence
    if evidence is None:
        return ""
    if not evidence.learned:
        why = f"; {evidence.solved}" if evidence.solved else ""
        digits = _decimals(evidence.gain_standard_error)
        gain = f"{evidence.gain:.{digits}f} +- {evidence.gain_standard_error:.{digits}f}"
        return f"{NOTHING_LEARNED}: its gain is {gain} nats{why}"
    enough, though = evidence.sufficient_rank(record.tolerance), _doubts(evidence)
    if enough is None:
        lost = f"each may lose more than {100 * record.tolerance:g} % of the gain"
        return f"no rank on the curve is enough: {lost}{though if evidence.slight else ''}"
    if enough == record.k:
        return _of_the_largest(record, though)
    of_what = "what the best rank gains" if evidence.overfitted else "the gain"
    return (
        f"rank {enough} is enough: cut to it, the searched model loses at most {100 * record.tolerance:g} % of "
        f"{of_what}{though}"
    )


def _doubts(evidence: Evidence) -> str:
    """Why the conclusion may not hold, to be added to it; "" if nothing speaks against it."""
    doubts = [evidence.few] if evidence.few else []
    doubts += ["the searched model is over-fitted"] if _overfitted(evidence) else []
    if evidence.slight:
        longer = "a longer search may change the answer" if longer_may_help(evidence) else ""
        doubts.append("; ".join(filter(None, (HARDLY_LEARNED, evidence.solved or longer))))
    return f", though {', and '.join(doubts)}" if doubts else ""


def longer_may_help(evidence: Evidence) -> str:
    """Says that LoRA has learned nothing or next to nothing, where a longer search may change that; "" elsewhere.

    It may not if the task is solved without LoRA, nor if the searched model is over-fitted."""
    if evidence.solved or _overfitted(evidence):
        return ""
    if not evidence.learned:
        return NOTHING_LEARNED
    return HARDLY_LEARNED if evidence.slight else ""


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


def caution(record: RankRecord) -> str:
    """That a training may need a higher rank than the one called enough; "" if no rank below k is enough."""
    enough = record.evidence.sufficient_rank(record.tolerance) if record.evidence and record.evidence.learned else None
    return "a training may need a higher rank" if enough is not None and enough < record.k else ""


def _of_the_largest(record: RankRecord, though: str) -> str:
    """The conclusion if only the largest rank passes, which is compared with itself."""
    if record.k == 1:
        return f"rank 1 is the only rank that was searched (lora.k){though}"
    return (
        f"no rank below {record.k} (lora.k) is enough: each may lose more than {100 * record.tolerance:g} % of the "
        f"gain, and a rank above {record.k} may keep more{though}"
    )


def gain_words(evidence: Evidence, rows: str = "D_val") -> str:
    """A sentence about LoRA's effect on the loss on these rows, with as many decimals as show it."""
    before, after = evidence.loss + evidence.gain, evidence.loss
    shows = (d for d in _DECIMALS if round(evidence.gain, d) and f"{before:.{d}f}" != f"{after:.{d}f}")
    digits = next(shows, None)
    if digits is None:
        return f"LoRA leaves the loss on {rows} at {after:z.3f} ({evidence.without})."
    verb = "lowers" if evidence.gain > 0 else "raises"
    return f"LoRA {verb} the loss on {rows} from {before:z.{digits}f} ({evidence.without}) to {after:z.{digits}f}."


def _decimals(number: float) -> int:
    """With how many decimals a number is not printed as 0; three, if that is none of _DECIMALS."""
    return next((digits for digits in _DECIMALS if round(abs(number), digits)), _DECIMALS[0])


def kept_words(point: CurvePoint) -> str:
    """The part of the gain that a cut keeps, in percent, with its 90 % interval. The lower limit is rounded down, as
    94.7 must not be printed as the 95 that a rank needs to be called enough."""
    if point.kept <= 0:
        return "nothing"
    low, high = (100 * limit for limit in interval(point.kept, point.kept_standard_error))
    limits = f" ({math.floor(max(0.0, low) + _WHOLE)} to {high:.0f})" if point.kept_standard_error > 0 else ""
    return f"{100 * point.kept:.0f} %{limits}"


def seen_layers(record: RankRecord) -> list[tuple[str, LayerRank]]:
    """Short name and layer, for the layers whose share is above noise, the largest share first."""
    names = short_names([layer.name for layer in record.layers])
    found = [(name, layer) for name, layer in zip(names, record.layers, strict=True) if layer.seen]
    return sorted(found, key=lambda item: -(item[1].layer_share or 0.0))


def share_lines(record: RankRecord, most: int = 12) -> Iterator[str]:
    """A line for each of the `most` layers with the largest shares, in percent of the sum, and one for the rest;
    no lines if LoRA has learned nothing."""
    evidence, seen = record.evidence, seen_layers(record)
    if evidence is None or not evidence.learned or evidence.share_total <= 0:
        return
    if not seen:
        yield "no layer has a share above noise"
        return
    shown = seen[:most]
    width = max(5, *(len(name) for name, _ in shown))
    largest = shown[0][1].layer_share or 1.0
    yield f"{'layer':<{width}}  share of what LoRA gains, +- standard error"
    for name, layer in shown:
        share, total = layer.layer_share or 0.0, evidence.share_total
        bar = "#" * max(1, round(LONGEST_BAR * share / largest))
        percent = 100 * layer.part_error(total)
        spread = f"{percent:.0f}" if percent >= 0.95 else f"{percent:.1f}"
        yield f"{name:<{width}}  {100 * share / total:3.0f} % +- {spread:<3} {bar}"
    more, silent = len(seen) - len(shown), len(record.layers) - len(seen)
    rest = [f"{more} more layer{'s' if more > 1 else ''}"] if more else []
    rest += [f"{silent} layer{'s have' if silent > 1 else ' has'} no share above noise"] if silent else []
    if rest:
        yield f"{'...':<{width}}  {'; '.join(rest)}"
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
    fall = f"{evidence.fall:.{_decimals(evidence.fall)}f}"
    return (
        f"from the head alone to the searched model the loss falls by {fall} nats if both have one "
        f"temperature; {lora} % of this is LoRA's, {head} % the head's"
    )


def curve_lines(record: RankRecord) -> Iterator[str]:
    """A line with what each rank keeps of the gain, and one for the budgets; no lines if LoRA has learned nothing."""
    evidence = record.evidence
    if evidence is None or not evidence.learned:
        return
    ranks = [
        f"rank {point.at:g}{' everywhere' if i == 0 else ''} {'keeps ' if i == 0 else ''}{kept_words(point)}"
        + (" of that" if i == 0 else "")
        for i, point in enumerate(evidence.rank_curve)
    ]
    yield ", ".join(ranks)
    by_svd = [f"rank {point.at:g} {kept_words(point)}" for point in evidence.plain_curve[:-1]]
    if by_svd:
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
    """Explains why some cuts keep more than 100 % of the gain, and what that means for the rank that is enough; "" if
    none surely does."""
    words = (
        "some cuts keep more than 100 %: the searched model is over-fitted, and does better on D_val when cut; a "
        "training on more rows may use a higher rank"
    )
    return words if _overfitted(evidence) else ""


def _overfitted(evidence: Evidence) -> bool:
    """Whether a cut surely keeps noticeably more than 100 % of the gain."""
    points = (*evidence.rank_curve, *evidence.budget_curve)
    return evidence.learned and any(p.kept - ONE_SIDED * p.kept_standard_error > NOTEWORTHY for p in points)
