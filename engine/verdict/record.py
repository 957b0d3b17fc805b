"""verdict.json: what a verdict found, in numbers and in one sentence, as other programs and the report read it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from autolora.configs.count_words import counted
from autolora.engine.disk.files import write_json
from autolora.engine.ranks.record import NOTHING_LEARNED
from autolora.engine.run.folder import RunFolder
from autolora.engine.verdict.arms import LEARNED, SEEDS, SHUFFLED, Arms
from autolora.engine.verdict.judge import FEWEST, Ending, Pairs, first_ending
from autolora.engine.verdict.shown import Shown

FEWEST_SOURCES = 500
"""With rows from fewer sources, a note says that the verdict holds for these rows only."""


def write_verdict(found: Shown | None, arms: Arms, run: RunFolder) -> None:
    """Writes verdict.json. `found` is None if a shuffle can change nothing.

    Losses and differences are in nats per label; a difference above 0 speaks for the learned ranks.
    """
    evidence = arms.record.evidence
    content: dict[str, Any] = {
        "ending": "undecided", "sentence": "", "pairs": 0, **dict.fromkeys(
            ("difference", "interval", "p", "gain", "gain_standard_error")),
        "parameters": arms.parameters,
        "enough_rank": evidence.sufficient_rank(arms.record.tolerance) if evidence else None,
        "recommendation": "", "notes": [], "learning_rate": arms.rate,
    }  # fmt: skip
    uniform = f"take rank {content['enough_rank'] or arms.uniform_rank} in every layer."
    if found is None:
        said, advice = _untested(arms, uniform)
    else:
        ending, count = first_ending(arms.plan, found.count, found.pairs) or ("undecided", found.count)
        pairs = found.pairs(count)
        said, advice = sentence(ending, pairs, arms), _advice(ending, pairs, arms, uniform)
        content |= {
            "ending": ending, "pairs": count, "difference": pairs.mean, "interval": _interval(pairs),
            "p": pairs.p(), "gain": pairs.gain, "gain_standard_error": pairs.gain_error, "notes": _notes(found),
            "rows": len(found.weights), "row_standard_error": pairs.row_error,
            "metric": next(iter(found.results[LEARNED][0]["metrics"])),
            "arms": [_arm(name, found, count) for name in arms.names if len(found.losses[name])],
        }  # fmt: skip
    write_json(run.verdict_summary, content | {"sentence": said, "recommendation": advice})


def _interval(pairs: Pairs) -> list[float] | None:
    """The 95 % interval of the mean difference; one pair has none."""
    return list(pairs.interval()) if pairs.count > 1 else None


def _arm(name: str, found: Shown, count: int) -> dict[str, Any]:
    """The loss and the metric of an arm in each pair, and its LoRA parameters (a mean over the pairs, as those of a
    shuffle may vary); for the arms that are compared with the learned ranks, also their difference."""
    results = found.results[name][:count]
    told: dict[str, Any] = {
        "name": name,
        "losses": found.means(name, count).tolist(),
        "scores": [next(iter(result["metrics"].values())) for result in results],
        "parameters": round(float(np.mean([result["lora_parameters"] for result in results]))),
    }
    if name == LEARNED:
        return told
    pairs = found.pairs(count, name)
    p = None if name == SHUFFLED else pairs.p()
    return told | {"difference": pairs.mean, "p": p, "interval": _interval(pairs)}


def sentence(ending: Ending, pairs: Pairs, arms: Arms) -> str:
    """What the pairs say."""
    low, high = pairs.interval()
    nats = _nats(pairs.mean, *((low, high) if pairs.count > 1 else ()))
    tested = f"{nats(low)} to {nats(high)} nats, {pairs.count} pairs, p {pairs.p():.2g}"
    part = f", {100 * abs(pairs.mean) / pairs.gain:.1f} % of what LoRA gains" if pairs.learned else ""
    little = ", but by little" if pairs.slight else ""
    at = f"at {arms.parameters:,} parameters"
    if ending == "matter":
        return f"Places matter{little}: learned beats its shuffle by {nats(pairs.mean)} nats{part} ({tested}), {at}."
    if ending == "worse":
        return (
            f"Places are worse{little}: the shuffle beats learned by {nats(-pairs.mean)} nats{part} ({tested}), {at}."
        )
    if ending == "equal":
        return f"Places do not matter here: other layers do as well ({tested}), {at}."
    if pairs.worthless and pairs.count >= SEEDS:
        nats = _nats(pairs.gain, pairs.gain_error)
        return (f"Nothing to gain: on these rows LoRA at the learned ranks changes the loss by {nats(-pairs.gain)} +- "
                f"{nats(pairs.gain_error)} nats; at shuffled ranks, too, no gain is sure.")  # fmt: skip
    after = f"After {counted(pairs.count, 'pair')} the difference is {nats(pairs.mean)} nats"
    if pairs.count < FEWEST:
        return f"{after}; at least {FEWEST} pairs are needed."
    look, level = arms.plan.next(pairs.count - 1)
    return (f"{after} ({tested}); a verdict after {look} pairs needs p at most {level:g} and an interval of "
            f"{100 - 200 * level:g} % that leaves out 0.")  # fmt: skip


def _untested(arms: Arms, uniform: str) -> tuple[str, str]:
    """The sentence for ranks that a shuffle cannot change, and what to do with them."""
    record = arms.record
    if record.evidence is not None and not record.evidence.learned and record.rule in ("shares", "size"):
        return f"Not tested: {NOTHING_LEARNED}. No pair was trained.", _TRAIN
    why = "no layers of one size have different ranks, so that a shuffle changes nothing"
    return f"Not tested: {why}. No pair was trained.", _BY_COST.format(arms.parameters, uniform)


_TRAIN = "LoRA does nothing for these rows: train longer, at another rate, or on more rows, then choose ranks."
_BY_COST = "Choose by cost alone: keep these ranks, which have {:,} parameters, or {}"


def _advice(ending: Ending, pairs: Pairs, arms: Arms, uniform: str) -> str:
    """What to do with these ranks."""
    if pairs.worthless and pairs.count >= SEEDS:
        return _TRAIN
    if ending == "undecided" and pairs.count >= arms.plan.most:
        return f"No more than {arms.plan.most} pairs are trained: a second verdict would be a second test; {uniform}"
    return {
        "matter": "Use these ranks.",
        "worse": f"Do not use these ranks; {uniform}",
        "equal": _BY_COST.format(arms.parameters, uniform),
        "undecided": f"The same command trains further pairs; until then, {uniform}",
    }[ending]


def _notes(found: Shown) -> list[str]:
    """What else a reader must know, a line each."""
    rows, inputs = len(found.weights), len(np.unique(found.sources))
    inputs = inputs if inputs > 1 else rows  # as in their standard error
    notes = []
    if inputs < FEWEST_SOURCES:
        notes.append(f"This verdict holds for these {rows} held-out rows ({inputs} inputs) only.")
    if further := [name for name in found.losses if name not in (LEARNED, SHUFFLED) and len(found.losses[name])]:
        notes.append(f"The interval and p of {' and '.join(further)} only describe: they are not corrected for "
                     f"several arms, and the shuffle alone decides when the verdict ends.")  # fmt: skip
    return notes


def _nats(*numbers: float) -> Callable[[float], str]:
    """Makes a function that writes nats with as many decimals as the largest of these numbers needs for two digits,
    and at least three: a language model's differences are thousandths."""
    largest = max(map(abs, numbers))
    decimals = max(3, 1 - math.floor(math.log10(largest))) if 0 < largest < 1 else 3
    return lambda number: f"{number:.{decimals}f}"
