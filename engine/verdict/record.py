"""verdict.json: what a verdict found, in numbers and in one sentence, as other programs and the report read it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from autolora.configs.count_words import counted
from autolora.engine.disk.files import write_json
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.words import NOTHING_LEARNED
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.program import told_of_commits
from autolora.engine.verdict.arms import LEARNED, SEEDS, SHUFFLED, Arms
from autolora.engine.verdict.judge import FEWEST, Ending, Pairs, first_ending
from autolora.engine.verdict.losses import Shown

FEWEST_SOURCES = 500
"""With rows from fewer sources, a note says that the verdict holds for these rows only."""


def write_verdict(found: Shown | None, arms: Arms, run: RunFolder) -> None:
    """Writes verdict.json. `found` is None if a shuffle can change nothing.

    Losses and differences are in nats per label; a difference above 0 speaks for the learned ranks.
    """
    decided: Ending = "undecided"
    pairs = None
    if found is not None:
        decided, count = first_ending(arms.plan, found.count, found.pairs) or ("undecided", found.count)
        pairs = found.pairs(count)
    content: dict[str, Any] = {
        "ending": decided,
        "sentence": _unchanged(arms) if pairs is None else sentence(decided, pairs, arms),
        "pairs": 0 if pairs is None else pairs.count,
        "difference": None if pairs is None else pairs.mean,
        "interval": None if pairs is None or pairs.count < 2 else list(pairs.interval()),
        "p": None if pairs is None else pairs.p(),
        "gain": None if pairs is None else pairs.gain,
        "gain_standard_error": None if pairs is None else pairs.gain_error,
        "parameters": arms.parameters,
        "enough_rank": _enough(arms.record),
        "recommendation": recommendation(decided, pairs, arms),
        "notes": [note for note in _notes(found, arms) if note],
        "shuffle": arms.config.verdict.shuffle,
        "learning_rate": arms.rate,
    }
    if found is not None and pairs is not None:
        content |= {
            "rows": len(found.weights),
            "row_standard_error": pairs.row_error,
            "metric": found.metric,
            "arms": [_arm(name, found, pairs.count) for name in arms.names if len(found.losses[name])],
        }
    write_json(run.verdict_summary, content)


def _arm(name: str, found: Shown, count: int) -> dict[str, Any]:
    """The loss and the metric of an arm in each pair, and its LoRA parameters (a mean over the pairs, as those of a
    shuffle may vary); for the arms that are compared with the learned ranks, also their difference."""
    told: dict[str, Any] = {
        "name": name,
        "losses": found.means(name, count).tolist(),
        "scores": found.scores[name][:count],
        "parameters": round(float(np.mean(found.parameters[name][:count]))),
    }
    if name == LEARNED:
        return told
    pairs = found.against(name, count)
    told |= {"difference": pairs.mean, "p": None if name == SHUFFLED else pairs.p()}
    return told | {"interval": list(pairs.interval()) if pairs.count > 1 else None}


def sentence(ending: Ending, pairs: Pairs, arms: Arms) -> str:
    """What the pairs say."""
    size, (low, high) = abs(pairs.mean), pairs.interval()
    nats = _nats(low, high) if pairs.count > 1 else _nats(size)
    percent = 100 * size / pairs.gain if pairs.learned else 0.0
    part = f", {percent:.{0 if percent >= 10 else 1}f} % of what LoRA gains" if pairs.learned else ""
    numbers = f"{pairs.count} pairs, p {pairs.p():.2g}), at {arms.parameters:,} parameters."
    if ending == "matter":
        little = ", but little" if pairs.slight else ""
        return (f"Places matter{little}: learned beats its shuffle by {nats(size)} nats{part} "
                f"({nats(low)} to {nats(high)}; {numbers}")  # fmt: skip
    if ending == "worse":
        little = ", though they cost little" if pairs.slight else ""
        return (f"Do not use these places{little}: the shuffle beats learned by {nats(size)} nats{part} "
                f"({nats(-high)} to {nats(-low)}; {numbers}")  # fmt: skip
    if ending == "equal":
        return (f"Places do not matter here: other layers do as well ({nats(low)} to {nats(high)} nats, "
                f"{pairs.count} pairs).")  # fmt: skip
    if pairs.worthless and pairs.count >= SEEDS:
        nats = _nats(pairs.gain, pairs.gain_error)
        return (f"Nothing to gain: on these rows LoRA at the learned ranks changes the loss by {nats(-pairs.gain)} +- "
                f"{nats(pairs.gain_error)} nats; at shuffled ranks, too, no gain is sure.")  # fmt: skip
    after = f"After {counted(pairs.count, 'pair')} the difference is {nats(pairs.mean)} nats"
    if pairs.count < FEWEST:
        return f"{after}; at least {FEWEST} pairs are needed."
    look, level = arms.plan.next(pairs.count - 1)
    return (f"{after} ({nats(low)} to {nats(high)}, p {pairs.p():.2g}); a verdict after {look} pairs needs p at most "
            f"{level:g} and an interval of {100 - 200 * level:g} % that leaves out 0.")  # fmt: skip


def _unchanged(arms: Arms) -> str:
    """The sentence for ranks that a shuffle cannot change."""
    if _nothing_learned(arms.record):
        why = f"{NOTHING_LEARNED}, so that every layer got rank 1"
    elif arms.record.all_equal:
        why = f"every layer has rank {arms.record.layers[0].rank}"
    else:
        why = f"no layers of one {arms.config.verdict.shuffle} can exchange their ranks, so a shuffle changes nothing"
    return f"Not tested: {why}. No pair was trained."


def _notes(found: Shown | None, arms: Arms) -> list[str]:
    """What else a reader must know, a line each."""
    if found is None:
        return []
    rows, sources = len(found.weights), found.source_count
    few = f"This verdict holds for these {rows} held-out rows ({sources} inputs) only; others may give another one."
    further = " and ".join(name for name in arms.names if name not in (LEARNED, SHUFFLED) and len(found.losses[name]))
    return [
        few if sources < FEWEST_SOURCES else "",
        told_of_commits(found.commits, "trainings"),
        f"The interval and p of {further} only describe: they are not corrected for several arms, and the shuffle "
        f"alone decides after how many pairs the verdict ends." if further else "",
    ]  # fmt: skip


def _enough(record: RankRecord) -> int | None:
    """The rank that is enough by the curve on D_val; None if none was measured."""
    return record.evidence.sufficient_rank(record.tolerance) if record.evidence else None


def _nothing_learned(record: RankRecord) -> bool:
    """Whether a rule derived no ranks, as LoRA has learned nothing that shows on D_val."""
    return record.evidence is not None and not record.evidence.learned and record.rule in ("shares", "size")


def recommendation(ending: Ending, pairs: Pairs | None, arms: Arms) -> str:
    """What to do with these ranks."""
    uniform = f"take rank {_enough(arms.record) or arms.uniform_rank} in every layer."
    if (pairs.count >= SEEDS and pairs.worthless) if pairs is not None else _nothing_learned(arms.record):
        return "LoRA does nothing for these rows: train longer, at another rate, or on more rows, then choose ranks."
    if ending == "matter":
        return "Use these ranks."
    if ending == "worse":
        return f"Do not use these ranks; {uniform}"
    if pairs is None or ending == "equal":
        return f"Choose by cost alone: keep these ranks, which have {arms.parameters:,} parameters, or {uniform}"
    if pairs.count >= arms.plan.most:
        return f"No more than {arms.plan.most} pairs are trained: a second verdict would be a second test; {uniform}"
    return f"The same command trains further pairs; until then, {uniform}"


def _nats(*numbers: float) -> Callable[[float], str]:
    """Makes a function that writes nats with as many decimals as the largest of these numbers needs for two digits,
    and at least three: a language model's differences are thousandths."""
    largest = max(map(abs, numbers))
    decimals = max(3, 1 - math.floor(math.log10(largest))) if 0 < largest < 1 else 3
    return lambda number: f"{number:.{decimals}f}"
