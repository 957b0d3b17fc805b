"""BLEU-4 (Papineni et al. 2002) in the two official variants; they differ in tokens and in how they treat zero counts.

Neither is sacrebleu's number in corner cases: sacrebleu smooths zero counts, and has no references of length 0.
"""

import math
from collections.abc import Sequence

from problems.scoring.ngrams import Tokens, clipped_matches, closest_length, mteval_tokens

MAX_ORDER = 4
# pymteval does not smooth: these lower bounds keep its BLEU defined.
_LEAST_MATCHES, _LEAST_NGRAMS = 1e-15, 1e-9


def bleu_mteval(hyps: Sequence[str], refs: Sequence[Sequence[str]]) -> float:
    """BLEU, 0 to 1, of the E2E script: mteval-v13a tokens, case-insensitive, closest reference length.

    A hypothesis shorter than n tokens has no n-grams, as in mteval-v13a itself. Here alone this departs from the
    script, which takes those that it lacks off the total, so that its number can exceed 1.
    Source: tuetschek/e2e-metrics, measure_scores.py -p (metrics/pymteval.py, BLEUScore).
    """
    references = [[mteval_tokens(text) for text in item_refs] for item_refs in refs]
    matches, totals, ref_length = _counts([mteval_tokens(text) for text in hyps], references)
    precisions = [
        max(hit, _LEAST_MATCHES) / max(total, _LEAST_NGRAMS) for hit, total in zip(matches, totals, strict=True)
    ]
    penalty = math.exp(1 - ref_length / totals[0]) if totals[0] <= ref_length else 1.0
    return penalty * _geometric_mean(precisions)


def bleu_moses(hyps: Sequence[Tokens], refs: Sequence[Sequence[Tokens]]) -> float:
    """BLEU, 0 to 100, of Moses' multi-bleu.perl on ready tokens: 0 when some order has no match; no smoothing.

    A reference without tokens (WebNLG's empty line for a missing one) takes part in the choice of the closest length.
    Source: moses-smt/mosesdecoder, scripts/generic/multi-bleu.perl.
    """
    matches, totals, ref_length = _counts(hyps, refs)
    if not all(matches):
        return 0.0
    penalty = math.exp(1 - ref_length / totals[0]) if totals[0] < ref_length else 1.0
    return 100 * penalty * _geometric_mean([hit / total for hit, total in zip(matches, totals, strict=True)])


def _counts(hyps: Sequence[Tokens], refs: Sequence[Sequence[Tokens]]) -> tuple[list[int], list[int], int]:
    """Matches and n-grams of each order, and the sum of the closest reference lengths."""
    matches, totals, ref_length = [0] * MAX_ORDER, [0] * MAX_ORDER, 0
    for hyp, item_refs in zip(hyps, refs, strict=True):
        ref_length += closest_length(hyp, item_refs)
        for order in range(MAX_ORDER):
            matches[order] += clipped_matches(hyp, item_refs, order + 1).total()
            totals[order] += max(len(hyp) - order, 0)
    return matches, totals, ref_length


def _geometric_mean(precisions: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, precisions)) / len(precisions))
