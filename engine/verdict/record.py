"""verdict.json: what a verdict found, as other programs and the report read it."""

from typing import Any

import numpy as np

from autolora.engine.disk.files import write_json
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.program import told_of_commits
from autolora.engine.verdict import words
from autolora.engine.verdict.arms import LEARNED, SHUFFLED, Arms
from autolora.engine.verdict.judge import Ending, Pairs, first_ending
from autolora.engine.verdict.losses import Shown


def write_verdict(found: Shown | None, arms: Arms, run: RunFolder) -> None:
    """Writes verdict.json. `found` is None if a shuffle can change nothing.

    Losses and differences are in nats per label; a difference above 0 speaks for the learned ranks.
    """
    decided: Ending = "undecided"
    pairs = None
    if found is not None:
        decided, count = first_ending(arms.plan, found.count, found.pairs) or ("undecided", found.count)
        pairs = found.pairs(count)
    evidence = arms.record.evidence
    content: dict[str, Any] = {
        "ending": decided,
        "sentence": _sentence(decided, pairs, arms, compared=found is not None and _compares_uniform(found)),
        "pairs": 0 if pairs is None else pairs.count,
        "difference": None if pairs is None else pairs.mean,
        "interval": None if pairs is None or pairs.count < 2 else list(pairs.interval()),
        "p": None if pairs is None else pairs.p(),
        "gain": None if pairs is None else pairs.gain,
        "gain_standard_error": None if pairs is None else pairs.gain_error,
        "parameters": arms.parameters,
        "enough_rank": evidence.sufficient_rank(arms.record.tolerance) if evidence else None,
        "recommendation": words.recommendation(decided, pairs, arms),
        "notes": _notes(found, arms),
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


def _sentence(decided: Ending, pairs: Pairs | None, arms: Arms, *, compared: bool) -> str:
    if pairs is None:
        return words.unchanged(arms)
    return words.sentence(decided, pairs, arms, compared=compared)


def _compares_uniform(found: Shown) -> bool:
    return len(found.losses.get("uniform", ())) > 0


def _notes(found: Shown | None, arms: Arms) -> list[str]:
    """What else a reader must know, a line each."""
    notes = [words.enough(arms.record)]
    if found is not None:
        further = [name for name in arms.names if name not in (LEARNED, SHUFFLED) and len(found.losses[name])]
        notes = [
            words.about_rows(len(found.weights), found.source_count),
            told_of_commits(found.commits, "trainings"),
            words.start(arms),
            words.further_arms(further),
            *notes,
        ]
    return [note for note in notes if note]


def _arm(name: str, found: Shown, count: int) -> dict[str, Any]:
    """The loss and the metric of an arm in each pair, and its LoRA parameters; for the arms that are compared with the
    learned ranks, also their difference.

    The parameters are a mean over the pairs, as those of random ranks and of a shuffle within a type may vary.
    """
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
