"""The three metrics of the WebNLG Challenge 2017, as its automatic evaluation scripts compute them."""

import re
from collections.abc import Sequence, Set

from autolora.configs.errors import UserError
from autolora.problems.scoring.bleu import bleu_moses
from autolora.problems.scoring.e2e import check_items
from autolora.problems.scoring.meteor import Meteor
from autolora.problems.scoring.names import check_metrics
from autolora.problems.scoring.ter import corpus_ter

SEEN = ("Airport", "Astronaut", "Building", "City", "ComicsCharacter", "Food", "Monument", "SportsTeam", "University",
        "WrittenWork")  # fmt: skip
UNSEEN = ("Artist", "Athlete", "CelestialBody", "MeanOfTransportation", "Politician")
MAX_REFERENCES = 3  # the challenge's scripts use no more, in the order of the data


def score_webnlg(
    hyps: list[str],
    refs: list[list[str]],
    metrics: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
) -> dict[str, float]:
    """BLEU, METEOR, TER of a whole test set (None: all three), in the challenge's units.

    hyps: one text per item; refs: the references of each item in the data's order ("" for a missing one). Raw texts
    and texts in the challenge's form (tokenised, lower case, ASCII) give the same scores. categories: for each item
    its category or "seen" / "unseen"; the result then also has "BLEU.seen", "BLEU.unseen", ... (the
    challenge calls them old-cat and new-cat).

    * BLEU, 0 to 100: multi-bleu.perl -lc; missing references count as references of length 0, as in the scripts.
    * METEOR, 0 to 1: 1.5, `-l en -norm -r 3`, missing references are empty lines.
    * TER, 0 upwards (a fraction): tercom 7.25: all edits over the summed mean reference lengths.

    Not the numbers of LoRA's WebNLG table: those come from GenerationEval (6 references, TER as a mean over items).
    Raises UserError on unequal counts, an item without a reference, an unknown metric or category, or missing Java.
    Source: gitlab.com/shimorina/webnlg-automatic-evaluation (evaluation.py and its .sh files).
    """
    chosen = check_metrics("webnlg", metrics)
    check_items(hyps, refs)
    outputs = [clean_hypothesis(hyp) for hyp in hyps]
    references = [[clean_reference(ref) for ref in item_refs[:MAX_REFERENCES]] for item_refs in refs]
    for number, item_refs in enumerate(references, 1):
        if not any(item_refs):
            raise UserError(f"score: item {number} has only empty references; one with text is needed")
    subsets = _subsets(len(hyps), categories)
    scorers = {"BLEU": _bleu, "METEOR": _meteor, "TER": _ter}
    by_metric = {name: scorers[name](outputs, references, list(subsets.values())) for name in chosen}
    return {name + suffix: by_metric[name][place] for place, suffix in enumerate(subsets) for name in chosen}


def is_of_2017(trained: Set[str], evaluated: Set[str]) -> bool:
    """Whether all categories are those of the 2017 challenge. Later releases also train on UNSEEN ones."""
    return trained <= set(SEEN) and evaluated <= {*SEEN, *UNSEEN}


def clean_hypothesis(text: str) -> str:
    """A system's line as the challenge's scripts rewrite it: ASCII, lower case, spaces around non-word characters."""
    return _split_words(_to_ascii(_to_ascii(text.strip()).lower()))


def clean_reference(text: str) -> str:
    """A reference as the challenge's scripts rewrite it: the same steps, but split before it becomes ASCII."""
    return _to_ascii(_split_words(text).lower())


def _split_words(text: str) -> str:
    return " ".join(" ".join(re.split(r"(\W)", text)).split())


def _to_ascii(text: str) -> str:
    # The challenge used Unidecode (GPL); text-unidecode has the tables of that time and agrees on all WebNLG text.
    from text_unidecode import unidecode  # type: ignore[import-untyped]

    return str(unidecode(text))


def _subsets(count: int, categories: Sequence[str] | None) -> dict[str, list[int]]:
    """Suffix of the scores' names -> its items: "" for all items, ".seen" and ".unseen" where there are such items."""
    subsets: dict[str, list[int]] = {"": list(range(count))}
    if categories is None:
        return subsets
    if len(categories) != count:
        raise UserError(f"score: {count} hypotheses, but categories for {len(categories)} items")
    sides = dict.fromkeys((*SEEN, "seen"), ".seen") | dict.fromkeys((*UNSEEN, "unseen"), ".unseen")
    for item, category in enumerate(categories):
        if category not in sides:
            raise UserError(f"score: item {item + 1} has unknown category {category!r}; allowed: {', '.join(sides)}")
        subsets.setdefault(sides[category], []).append(item)
    return dict(sorted(subsets.items()))


def _bleu(outputs: list[str], references: list[list[str]], subsets: list[list[int]]) -> list[float]:
    # The scripts write as many files as the item with most references needs; an item with fewer has empty lines there.
    files = max(map(len, references))
    hyps = [output.split() for output in outputs]
    refs = [[ref.split() for ref in _padded(item_refs, files)] for item_refs in references]
    return [bleu_moses([hyps[i] for i in items], [refs[i] for i in items]) for items in subsets]


def _meteor(outputs: list[str], references: list[list[str]], subsets: list[list[int]]) -> list[float]:
    with Meteor() as meteor:
        segments = [
            meteor.segment(output, _padded(item_refs, MAX_REFERENCES))
            for output, item_refs in zip(outputs, references, strict=True)
        ]
        return [meteor.corpus([segments[i] for i in items]) for items in subsets]


def _ter(outputs: list[str], references: list[list[str]], subsets: list[list[int]]) -> list[float]:
    # Here the scripts leave missing references out.
    items = [
        corpus_ter([output.split()], [[ref.split() for ref in item_refs if ref]])
        for output, item_refs in zip(outputs, references, strict=True)
    ]
    return [sum(items[i][0] for i in chosen) / sum(items[i][1] for i in chosen) for chosen in subsets]


def _padded(item_refs: list[str], count: int) -> list[str]:
    return item_refs + [""] * (count - len(item_refs))
