"""Entity precision, recall and F1 by exact match, as conlleval and seqeval's default mode count them."""

from autolora.configs.errors import UserError

MEASURES = ("precision", "recall", "f1")


def score_ner(gold: list[list[str]], pred: list[list[str]]) -> dict[str, float]:
    """Micro-averaged "precision", "recall", "f1" over all entities, then "protein.precision" etc. for each type.

    gold, pred: IOB tags ("O", "B-protein", "I-protein"), one list per sentence, both of the same lengths. All values
    from 0 to 1; 0 where nothing was found or nothing was to be found. An entity counts when type, start and end are
    right. An I- tag that follows no entity of its type opens one (lenient, like conlleval.pl; seqeval's strict IOB2
    mode would not count it). Raises UserError when sentences or their lengths do not pair up.
    Source: seqeval 1.2.2, default mode (equal to conlleval.pl); what AutoLoRA's bionlp.py reports.
    """
    from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

    _check_pairs(gold, pred)
    micro = precision_recall_fscore_support(gold, pred, average="micro", zero_division=0)
    scores = {measure: float(value) for measure, value in zip(MEASURES, micro, strict=False)}
    types = sorted({kind for kind, _, _ in [*get_entities(gold), *get_entities(pred)]})  # seqeval's order
    by_type = precision_recall_fscore_support(gold, pred, average=None, zero_division=0) if types else ()
    for place, kind in enumerate(types):
        scores |= {f"{kind}.{measure}": float(of[place]) for measure, of in zip(MEASURES, by_type, strict=False)}
    return scores


def _check_pairs(gold: list[list[str]], pred: list[list[str]]) -> None:
    """Raises UserError unless every sentence has as many predicted tags as gold tags."""
    if len(gold) != len(pred):
        raise UserError(f"score: {len(gold)} sentences with gold tags, but {len(pred)} with predicted tags")
    if not gold:
        raise UserError("score: no sentences")
    for number, (right, guess) in enumerate(zip(gold, pred, strict=True), 1):
        if len(right) != len(guess):
            raise UserError(f"score: sentence {number} has {len(right)} gold tags, but {len(guess)} predicted tags")
