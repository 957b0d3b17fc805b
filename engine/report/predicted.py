"""What a classifier predicts on the evaluation rows, class by class, and its surest errors; from predictions.csv."""

from dataclasses import dataclass
from textwrap import shorten

import pandas as pd

from autolora.configs.errors import UserError
from autolora.engine.report.answer import Table
from autolora.engine.run.folder import RunFolder

_MOST_CLASSES = 50
_MOST_COLUMNS = 12
"""Up to so many classes, the table says how often each is taken for each other."""
_SUREST = 5
_LONGEST = 300
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class Predicted:
    """`classes`: a row for each class (the 50 most frequent ones). `errors`: the errors with the highest probability,
    the surest first; empty if there are none."""

    classes: Table
    errors: Table


def predicted_of(folder: RunFolder) -> Predicted | None:
    """What the report shows of predictions.csv; None for a run that does not predict classes.

    Raises UserError for a damaged file.
    """
    if not folder.predicted_rows.exists():
        return None
    try:
        found = pd.read_csv(folder.predicted_rows, dtype=str, keep_default_na=False)
        if "probability" not in found:
            return None
        found["probability"] = pd.to_numeric(found["probability"])
        return Predicted(_classes(found), _errors(found))
    except (ValueError, KeyError, OSError) as error:
        raise UserError(
            f"{folder.predicted_rows}: cannot be read ({str(error).splitlines()[0]:.200}); remove the file, and the "
            f"report is made without it"
        ) from error


def _classes(found: pd.DataFrame) -> Table:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # here: it takes a second to import

    names = sorted(set(found["label"]) | set(found["predicted"]))
    scores = precision_recall_fscore_support(found["label"], found["predicted"], labels=names, zero_division=0)
    counts = confusion_matrix(found["label"], found["predicted"], labels=names)
    columns, few = ["class", "rows", "precision", "recall", "f1"], len(names) <= _MOST_COLUMNS
    rows = []
    for place in sorted(range(len(names)), key=lambda place: -scores[3][place])[:_MOST_CLASSES]:
        part = [f"{score[place]:.3f}" for score in scores[:3]]
        taken = [f"{count:,}" for count in counts[place]] if few else []
        rows.append([names[place], f"{scores[3][place]:,}", *part, *taken])
    return columns + ([f"taken for {name}" for name in names] if few else []), rows


def _errors(found: pd.DataFrame) -> Table:
    wrong = found[found["label"] != found["predicted"]].nlargest(_SUREST, "probability")
    texts = [name for name in found.columns.map(str) if name not in ("label", "predicted", "probability", "split")]
    rows = [
        [
            *(shorten(row[name], _LONGEST, placeholder=" ...") for name in texts),
            row["label"],
            row["predicted"],
            f"{row['probability']:.3f}",
        ]
        for _, row in wrong.iterrows()
    ]
    return [*texts, "label", "predicted", "probability"], rows
