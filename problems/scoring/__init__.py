"""Official metrics of E2E, WebNLG 2017 and JNLPBA/BioNLP. Importing this loads no scorer and starts no Java."""

from autolora.problems.scoring.command import score
from autolora.problems.scoring.e2e import score_e2e
from autolora.problems.scoring.names import METRICS, check_metrics
from autolora.problems.scoring.ner import score_ner
from autolora.problems.scoring.webnlg import is_of_2017, score_webnlg

__all__ = ["METRICS", "check_metrics", "is_of_2017", "score", "score_e2e", "score_ner", "score_webnlg"]
