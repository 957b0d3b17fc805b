"""Official metrics of E2E, WebNLG 2017 and of tagged entities. Importing this loads no scorer and starts no Java."""

from autolora.problems.scoring.entities import score_ner
from autolora.problems.scoring.texts import is_of_2017, require, score_e2e, score_webnlg

__all__ = ["is_of_2017", "require", "score_e2e", "score_ner", "score_webnlg"]
