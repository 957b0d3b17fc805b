"""BLEU-4 (Papineni et al. 2002) in the two official variants; they differ in tokens and in how they treat zero counts.

sacrebleu counts for both. Its usual number is neither: it smooths zero counts and gives an empty output no token.
"""

from collections.abc import Sequence
from itertools import zip_longest
from statistics import geometric_mean
from typing import TYPE_CHECKING

from autolora.problems.scoring.ngrams import Tokens, mteval_tokens

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEUScore

MAX_ORDER = 4
# pymteval does not smooth: these lower bounds keep its BLEU defined.
_LEAST_MATCHES, _LEAST_NGRAMS = 1e-15, 1e-9
# Stands for the empty token of an empty text, which sacrebleu would leave out; all other tokens are in lower case.
_EMPTY = "EMPTY"


def bleu_mteval(hyps: Sequence[str], refs: Sequence[Sequence[str]]) -> float:
    """BLEU, 0 to 1, of the E2E script: mteval-v13a tokens, case-insensitive, closest reference length.

    A hypothesis shorter than n tokens has no n-grams, as in mteval-v13a itself. Here alone this departs from the
    script, which takes those that it lacks off the total, so that its number can exceed 1.
    Source: tuetschek/e2e-metrics, measure_scores.py -p (metrics/pymteval.py, BLEUScore).
    """
    references = [[_mteval_words(text) for text in item_refs] for item_refs in refs]
    counted = _counted([_mteval_words(text) for text in hyps], references)
    precisions = [
        max(hit, _LEAST_MATCHES) / max(total, _LEAST_NGRAMS)
        for hit, total in zip(counted.counts, counted.totals, strict=True)
    ]
    return counted.bp * geometric_mean(precisions)


def bleu_moses(hyps: Sequence[Tokens], refs: Sequence[Sequence[Tokens]]) -> float:
    """BLEU, 0 to 100, of Moses' multi-bleu.perl on ready tokens: 0 when some order has no match; no smoothing.

    A reference without tokens (WebNLG's empty line for a missing one) takes part in the choice of the closest length.
    Source: moses-smt/mosesdecoder, scripts/generic/multi-bleu.perl.
    """
    return _counted(hyps, refs).score


def _mteval_words(text: str) -> list[str]:
    return [token or _EMPTY for token in mteval_tokens(text)]


def _counted(hyps: Sequence[Tokens], refs: Sequence[Sequence[Tokens]]) -> "BLEUScore":
    """sacrebleu's score without smoothing, from 0 to 100, of ready tokens, with matches, n-grams and penalty."""
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(tokenize="none", smooth_method="none", force=True, max_ngram_order=MAX_ORDER)
    lines = [[" ".join(ref) for ref in item_refs] for item_refs in refs]
    # sacrebleu takes the references as parallel files, with None where an item has fewer.
    return bleu.corpus_score([" ".join(hyp) for hyp in hyps], list(zip_longest(*lines)))
