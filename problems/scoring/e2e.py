"""The five metrics of the E2E NLG Challenge, as its script `measure_scores.py -p` prints them."""

from collections.abc import Sequence

from autolora.configs.errors import UserError
from autolora.problems.scoring.bleu import bleu_mteval
from autolora.problems.scoring.meteor import Meteor
from autolora.problems.scoring.names import NEEDS_JAVA, check_metrics
from autolora.problems.scoring.nist import nist
from autolora.problems.scoring.ptb import ptb_tokenize

# What the caption scorers work on: one key per item, a list of sentences per key.
Captions = dict[int, list[str]]


def score_e2e(hyps: list[str], refs: list[list[str]], metrics: Sequence[str] | None = None) -> dict[str, float]:
    """BLEU, NIST, METEOR, ROUGE_L, CIDEr of a whole test set (None: all five), in the official script's units.

    hyps: raw text, one per item; refs: raw references of each item, one or more. BLEU, METEOR and ROUGE_L from 0 to
    1, NIST and CIDEr from 0 upwards (CIDEr at most 10, and only for a whole set: its weights come from the set).

    * BLEU, NIST: mteval-v13a, case-insensitive, any number of references.
    * METEOR: 1.5, `-l en -norm`, on PTB tokens.
    * ROUGE_L: the caption scripts' (best precision and best recall over the references, beta 1.2), mean over items.
    * CIDEr: the caption scripts' (n = 1..4, clipped, Gaussian length penalty with sigma 6, no stemming: what papers
      call CIDEr-D), document frequencies from refs.

    Raises UserError on unequal counts, an item without a reference, an unknown metric, or when Java is missing
    (METEOR, and ROUGE_L and CIDEr for their tokens).
    Source: tuetschek/e2e-metrics, measure_scores.py -p, with the MS-COCO caption scorers of pycocoevalcap 1.2.
    """
    chosen = check_metrics("e2e", metrics)
    check_items(hyps, refs)
    scores: dict[str, float] = {}
    if "BLEU" in chosen:
        scores["BLEU"] = bleu_mteval(hyps, refs)
    if "NIST" in chosen:
        scores["NIST"] = nist(hyps, refs)
    captions = [name for name in chosen if name in NEEDS_JAVA["e2e"]]
    if captions:
        scores |= _caption_scores(hyps, refs, captions)
    return scores


def check_items(hyps: Sequence[str], refs: Sequence[Sequence[str]]) -> None:
    """Raises UserError unless there are as many hypotheses as groups of references, and a reference in each group."""
    if len(hyps) != len(refs):
        raise UserError(f"score: {len(hyps)} hypotheses, but references for {len(refs)} items; one line per item")
    if not hyps:
        raise UserError("score: no hypotheses")
    for number, item_refs in enumerate(refs, 1):
        if not item_refs:
            raise UserError(f"score: item {number} has no reference; one or more are needed")


def _caption_scores(hyps: list[str], refs: list[list[str]], metrics: Sequence[str]) -> dict[str, float]:
    """The metrics of the MS-COCO caption scripts."""
    needed_by = ", ".join(metrics)
    # Two calls, as in the official script: see ptb_tokenize on why the order of lines matters.
    ref_tokens = iter(ptb_tokenize([ref for item_refs in refs for ref in item_refs], needed_by))
    references: Captions = {i: [next(ref_tokens) for _ in item_refs] for i, item_refs in enumerate(refs)}
    outputs: Captions = {i: [tokens] for i, tokens in enumerate(ptb_tokenize(hyps, needed_by))}
    scorers = {"METEOR": _meteor, "ROUGE_L": _rouge_l, "CIDEr": _cider}
    return {name: scorers[name](references, outputs) for name in metrics}


def _meteor(references: Captions, outputs: Captions) -> float:
    with Meteor() as meteor:
        return meteor.corpus([meteor.segment(outputs[i][0], references[i]) for i in outputs])


def _rouge_l(references: Captions, outputs: Captions) -> float:
    from pycocoevalcap.rouge.rouge import Rouge

    return float(Rouge().compute_score(references, outputs)[0])


def _cider(references: Captions, outputs: Captions) -> float:
    from pycocoevalcap.cider.cider import Cider

    return float(Cider().compute_score(references, outputs)[0])
