"""Official metrics of texts and of tagged words; they need no torch."""

from autolora.problems.scoring.entities import read_tags, score_ner
from autolora.problems.scoring.texts import require, score_e2e, score_webnlg

__all__ = ["read_tags", "require", "score_e2e", "score_ner", "score_webnlg"]
