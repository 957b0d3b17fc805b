"""A verdict in words: one sentence for each ending, and what to do about it."""

import math
from collections.abc import Callable, Sequence

from autolora.configs.count_words import counted
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.controls import can_be_shuffled
from autolora.engine.ranks.words import NOTHING_LEARNED
from autolora.engine.verdict.arms import SEEDS, Arms
from autolora.engine.verdict.judge import FEWEST, Ending, Pairs, Plan

FEWEST_SOURCES = 500
"""With rows from fewer sources, a note says that the verdict holds for these rows only."""
SECOND_TEST = (
    "A new verdict is a second test: where places make no difference, one of two tests says otherwise in up to 10 % "
    "of cases, which a plan of 24 pairs from the start avoids."
)


def sentence(ending: Ending, pairs: Pairs, arms: Arms, *, compared: bool) -> str:
    """What the pairs say. `compared`: whether the uniform rank of about as many parameters was trained, too."""
    parameters, uniform = arms.parameters, arms.uniform_rank
    size, (low, high) = abs(pairs.mean), pairs.interval()
    nats = _nats(low, high) if pairs.count > 1 else _nats(size)
    numbers = f"{pairs.count} pairs, p {pairs.p():.2g}"
    if ending == "matter":
        little = ", but little" if pairs.slight else ""
        return (
            f"Places matter{little}: learned beats its shuffle by {nats(size)} nats{_part(size, pairs)} "
            f"({nats(low)} to {nats(high)}; {numbers}), at {parameters:,} parameters."
        )
    if ending == "worse":
        little = ", though they cost little" if pairs.slight else ""
        return (
            f"Do not use these places{little}: the shuffle beats learned by {nats(size)} nats{_part(size, pairs)} "
            f"({nats(-high)} to {nats(-low)}; {numbers}), at {parameters:,} parameters."
        )
    if ending == "equal":
        nats = _nats(low, high, least=4)
        also = "was compared, too" if compared else "was not compared"
        return (
            f"Places do not matter here: other layers at this budget do as well ({nats(low)} to {nats(high)} nats, "
            f"{pairs.count} pairs); the uniform rank {uniform} {also}."
        )
    if pairs.worthless and pairs.count >= SEEDS:
        nats = _nats(pairs.gain, pairs.gain_error)
        verb = "lowers" if pairs.gain > 0 else "raises"
        return (
            f"Nothing to gain: on these rows LoRA at the learned ranks {verb} the loss by {nats(abs(pairs.gain))} +- "
            f"{nats(pairs.gain_error)} nats; at shuffled ranks, too, no gain is sure."
        )
    after = f"After {counted(pairs.count, 'pair')}"
    if pairs.count == 1:
        return f"{after} the difference is {nats(pairs.mean)} nats; at least {FEWEST} pairs are needed."
    more = f"; at least {FEWEST} are needed" if pairs.count < FEWEST else _not_sure(pairs, arms.plan)
    return f"{after} the difference lies between {nats(low)} and {nats(high)} nats{more}."


def _not_sure(pairs: Pairs, plan: Plan) -> str:
    """Why pairs decide nothing though their 95 % interval leaves 0 out: looks ask for more; "" if it does not."""
    low, high = pairs.interval()
    if low <= 0 <= high:
        return ""
    look, level = plan.next(pairs.count - 1)
    asked = f"p at most {level:g} and an interval of {100 - 200 * level:g} % that leaves out 0"
    return f", but a verdict after {look} pairs needs {asked} (p is {pairs.p():.2g} now)"


def unchanged(arms: Arms) -> str:
    """The sentence for ranks that a shuffle cannot change."""
    record, shuffle = arms.record, arms.config.verdict.shuffle
    if nothing_learned(record):
        why = f"{NOTHING_LEARNED}, so that every layer got rank 1 and there is no other placement to compare"
    elif record.all_equal:
        why = f"every layer has rank {record.layers[0].rank}, so there is no other placement to compare"
    else:
        narrow = can_be_shuffled(record, arms.sizes, shuffle)
        which = "that differ in rank are too narrow for each other's ranks" if narrow else "have equal ranks"
        why = (
            f"all layers of one {shuffle} {which}, so that a shuffle changes nothing; whether it matters which "
            f"{'layer' if narrow else shuffle} has which rank is not known"
        )
    return f"Not tested: {why}. No pair was trained."


def about_rows(rows: int, sources: int) -> str:
    """A warning if only few rows judged, or rows of few sources (inputs); "" if there were enough."""
    if sources >= FEWEST_SOURCES:
        return ""
    which = f"{rows} held-out rows" + (f" of {sources} inputs" if sources < rows else "")
    few = f"with fewer than {FEWEST_SOURCES}, others may give another verdict"
    return f"This verdict holds for these {which} only: {few}."


def start(arms: Arms) -> str:
    """Says that the trainings did not start from fresh weights; "" if they did."""
    if arms.config.retrain.start == "scratch":
        return ""
    return (
        "The trainings of the pairs started from components of this run's search (retrain.init search), those of the "
        "head alone from fresh weights."
    )


def further_arms(names: Sequence[str]) -> str:
    """Says how the numbers of the arms that verdict.arms adds are to be read; "" if none was trained."""
    if not names:
        return ""
    return (
        f"The interval and p of {' and '.join(names)} only describe: they are not corrected for several arms, and the "
        f"shuffle alone decides after how many pairs the verdict ends."
    )


def enough(record: RankRecord) -> str:
    """Says which rank is enough by the curve on D_val; "" if none was measured."""
    rank = record.evidence.sufficient_rank(record.tolerance) if record.evidence else None
    if rank is None:
        return ""
    few = " (on few rows)" if record.evidence and record.evidence.few else ""
    which = f"no rank below {rank} is" if rank == record.k > 1 else f"rank {rank} everywhere is"
    return f"By the curve on D_val{few}, {which} enough."


def nothing_learned(record: RankRecord) -> bool:
    """Whether a rule derived no ranks, as LoRA has learned nothing that shows on D_val."""
    return record.evidence is not None and not record.evidence.learned and record.rule in ("shares", "size")


def recommendation(ending: Ending, pairs: Pairs | None, arms: Arms) -> str:
    """What to do with these ranks."""
    evidence = arms.record.evidence
    rank = (evidence.sufficient_rank(arms.record.tolerance) if evidence else None) or arms.uniform_rank
    uniform = f"take rank {rank} in every layer."
    if (pairs.count >= SEEDS and pairs.worthless) if pairs is not None else nothing_learned(arms.record):
        longer = "train longer, at another rate, or on more rows, and then choose ranks"
        return f"LoRA does nothing for these rows: {evidence.solved if evidence and evidence.solved else longer}."
    if ending == "matter":
        return "Use these ranks."
    if ending == "worse":
        return f"Do not use these ranks; {uniform}"
    if pairs is None or ending == "equal":
        return f"Choose by cost alone: keep these ranks, which have {arms.parameters:,} parameters, or {uniform}"
    if pairs.count >= arms.plan.most:
        return f"No more than {arms.plan.most} pairs are trained. {SECOND_TEST} To be safe, {uniform}"
    return f"The same command trains further pairs; until then, {uniform}"


def _nats(*numbers: float, least: int = 3) -> Callable[[float], str]:
    """Makes a function that writes nats with as many decimals as the largest of these numbers needs for two digits,
    and at least `least`: a language model's differences are thousandths."""
    largest = max(map(abs, numbers))
    decimals = max(least, 1 - math.floor(math.log10(largest))) if 0 < largest < 1 else least
    return lambda number: f"{number:.{decimals}f}"


def _part(size: float, pairs: Pairs) -> str:
    """The part of the gain that a difference is; "" if no gain at the learned ranks was seen."""
    if not pairs.learned:
        return ""
    percent = 100 * size / pairs.gain
    return f", {percent:.{0 if percent >= 10 else 1}f} % of what LoRA gains"
