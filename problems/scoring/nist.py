"""NIST-5 (Doddington 2002) as the E2E script computes it; no package gives this number with several references.

nltk's corpus_nist counts the n-gram information from one reference per item and gives 6.22 where the script and
mteval-v13a give 7.79 (the script's own example).
"""

import math
from collections import Counter
from collections.abc import Sequence

from autolora.problems.scoring.ngrams import NGram, clipped_matches, count_ngrams, mteval_tokens

MAX_ORDER = 5
# The length penalty is one half when the output has two thirds of the references' mean length.
_BETA = -math.log(0.5) / math.log(1.5) ** 2


def nist(hyps: Sequence[str], refs: Sequence[Sequence[str]]) -> float:
    """NIST, 0 upwards: mteval-v13a tokens, case-insensitive, n = 1..5, any number of references per item.

    Information weights come from all references of all items. A match counts at most as often as in the one reference
    that has it most often. The length penalty compares the total length with the sum of each item's mean reference
    length. A hypothesis shorter than n tokens has no n-grams; here alone this departs from the script, which takes
    those that it lacks off the total.
    Source: tuetschek/e2e-metrics, measure_scores.py -p (metrics/pymteval.py, NISTScore).
    """
    matches: list[Counter[NGram]] = [Counter() for _ in range(MAX_ORDER)]
    seen: list[Counter[NGram]] = [Counter() for _ in range(MAX_ORDER + 1)]  # seen[0]: all words, under ()
    totals = [0] * MAX_ORDER
    mean_ref_length = 0.0
    for hyp_text, ref_texts in zip(hyps, refs, strict=True):
        hyp, item_refs = mteval_tokens(hyp_text), [mteval_tokens(text) for text in ref_texts]
        ref_words = sum(map(len, item_refs))
        seen[0][()] += ref_words
        mean_ref_length += ref_words / len(item_refs)
        for order in range(MAX_ORDER):
            totals[order] += max(len(hyp) - order, 0)
            matches[order].update(clipped_matches(hyp, item_refs, order + 1))
            for ref in item_refs:
                seen[order + 1].update(count_ngrams(ref, order + 1))
    # A total of 0 (every output shorter than n) stops the script with an error; here the order just adds nothing.
    score = sum(_information(found, seen) / (total or 1) for found, total in zip(matches, totals, strict=True))
    return _length_penalty(totals[0] / mean_ref_length) * score


def _information(matches: Counter[NGram], seen: list[Counter[NGram]]) -> float:
    """Bits that the matches carry: log2 of (how often the first n - 1 words occur / how often the n-gram occurs)."""
    return sum(
        times * math.log2(seen[len(ngram) - 1][ngram[:-1]] / seen[len(ngram)][ngram])
        for ngram, times in matches.items()
    )


def _length_penalty(ratio: float) -> float:
    """1 for an output at least as long as the references; the shorter the output, the closer to 0."""
    if ratio >= 1:
        return 1.0
    return math.exp(-_BETA * math.log(ratio) ** 2) if ratio > 0 else 0.0
