"""Each type of task has its metrics; another one is refused with those there are."""

from typing import Any

import pytest

from autolora.configs.metrics import ERRORS, metrics_of, refused_metrics
from autolora.configs.schema import TaskConfig

KNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "sample": ({}, "accuracy, matthews, f1_macro"),
    "text": ({"type": "text"}, "accuracy, matthews, f1_macro"),
    "numbers": ({"type": "text", "kind": "regression"}, "spearman, pearson, mse"),
    "glue": ({"type": "glue", "name": "cola"}, "accuracy, matthews, f1_macro"),
    "glue of numbers": ({"type": "glue", "name": "stsb"}, "spearman, pearson, mse"),
    "tokens": ({"type": "tokens"}, "f1, precision, recall"),
    "chat": ({"type": "chat"}, "perplexity, token_accuracy"),
    "e2e": (
        {"type": "generation", "name": "e2e"},
        "bleu, nist, meteor, rouge_l, cider, perplexity, token_accuracy",
    ),
    "webnlg": ({"type": "generation", "name": "webnlg"}, "bleu, meteor, ter, perplexity, token_accuracy"),
    "own table": (
        {"type": "generation", "name": "mine"},
        "bleu, nist, meteor, rouge_l, cider, exact_match, perplexity, token_accuracy",
    ),
}


@pytest.mark.parametrize("case", KNOWN)
def test_the_metrics_of_a_task(case: str) -> None:
    settings, known = KNOWN[case]
    assert ", ".join(metrics_of(TaskConfig(**settings))) == known
    assert not list(refused_metrics(TaskConfig(**settings, metrics=known.split(", "))))
    (message,) = refused_metrics(TaskConfig(**settings, metrics=[known.split(",")[0], "other"]))
    assert message.startswith("--task.metrics: 'other' is not allowed for --task.type ")
    assert message.endswith(f"; allowed: {known}")


def test_metrics_of_generation_may_be_spelt_as_the_official_scripts_do() -> None:
    assert not list(refused_metrics(TaskConfig(type="generation", name="e2e", metrics=["ROUGE-L", "CIDEr"])))
    assert list(refused_metrics(TaskConfig(type="text", metrics=["Accuracy"])))


def test_of_which_metrics_less_is_better() -> None:
    names = {name for _, known in KNOWN.values() for name in known.split(", ")}
    more = {
        "accuracy", "matthews", "f1_macro", "spearman", "pearson", "f1", "precision", "recall", "token_accuracy",
        "bleu", "nist", "meteor", "rouge_l", "cider", "exact_match",
    }  # fmt: skip
    assert names - more == ERRORS, "a new metric: say here whether more or less of it is better"
