"""The names of metrics: their order and spelling, and what is refused."""

import pytest

from autolora.configs.errors import UserError
from autolora.problems.scoring.names import METRICS, check_metrics


@pytest.mark.trains
@pytest.mark.usefixtures("java")
def test_all_in_the_order_of_the_scripts():
    for kind, names in METRICS.items():
        assert check_metrics(kind) == names
        assert check_metrics(kind, list(reversed(names))) == names


def test_spelling_is_free():
    assert check_metrics("e2e", ["bleu", "Nist"]) == ("BLEU", "NIST")
    assert check_metrics("webnlg", ["ter"]) == ("TER",)


@pytest.mark.parametrize(
    ("kind", "metrics", "message"),
    [
        ("e2e", ["BLUE"], r"unknown 'BLUE' \(nearest: BLEU\); allowed for e2e: BLEU, NIST"),
        ("webnlg", ["CIDEr"], "unknown 'CIDEr'; allowed for webnlg: BLEU, METEOR, TER"),
        ("ner", [], "none given; allowed for ner"),
        ("glue", None, "unknown kind 'glue'; allowed: e2e, webnlg, ner"),
    ],
)
def test_what_is_not_allowed(kind, metrics, message):
    with pytest.raises(UserError, match=message):
        check_metrics(kind, metrics)


@pytest.mark.usefixtures("no_java")
def test_java_is_asked_for_before_any_work():
    with pytest.raises(UserError, match=r"METEOR, CIDEr: needs Java.* out of --task\.metrics$"):
        check_metrics("e2e", ["BLEU", "cider", "METEOR"])
    assert check_metrics("e2e", ["BLEU", "NIST"]) == ("BLEU", "NIST")
    assert check_metrics("webnlg", ["BLEU", "TER"]) == ("BLEU", "TER")
