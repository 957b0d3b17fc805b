"""Entity precision, recall and F1 by exact match."""


def score_ner(gold: list[list[str]], pred: list[list[str]]) -> dict[str, float]:
    """Micro-averaged "precision", "recall", "f1" over all entities, then "protein.precision" etc. of each type.

    gold, pred: IOB tags ("O", "B-protein", "I-protein"), one list per sentence. All values from 0 to 1; 0 where
    nothing was found or nothing was to be found. An entity counts when type, start and end are right. An I- tag that
    follows no entity of its type opens one, as in conlleval.pl; seqeval's strict mode would not count it. Raises
    ValueError for sentences of different lengths.
    Source: seqeval's default mode; what AutoLoRA's bionlp.py reports.
    """
    from seqeval.metrics import classification_report

    found = classification_report(gold, pred, output_dict=True, zero_division=0)
    total = found.pop("micro avg")
    del found["macro avg"], found["weighted avg"]
    parts = {"": total} | {f"{kind}.": values for kind, values in found.items()}
    return {
        prefix + name.removesuffix("-score"): float(values[name])
        for prefix, values in parts.items()
        for name in ("precision", "recall", "f1-score")
    }
