"""What `learn_ranks` refuses: one line that says what was given and what is allowed, and a model that is untouched."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.api import AnswerConfig, HypergradientConfig, SearchConfig, UserError
from tests.helpers.api import class_rows, classifier, learn, settings
from tests.helpers.untouched import left_as_it_was

pytestmark = pytest.mark.trains


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": settings(use_dora=True)}, r"lora_config: use_dora=True is not allowed in a search"),
        ({"config": settings(use_rslora=True)}, r"lora_config: use_rslora=True is not allowed"),
        ({"config": settings(rank_pattern={"query": 2})}, r"lora_config: rank_pattern=.* is not allowed"),
        ({"config": settings(init_lora_weights="pissa")}, r"lora_config: init_lora_weights='pissa' is not allowed"),
        ({"config": settings(target_modules=["qery"])}, r"--lora\.target_modules: qery matches no module"),
        ({"config": settings(target_modules="qery.*")}, r"lora_config: target_modules='qery\.\*' matches no linear"),
        ({"config": settings(r=64)}, r"--lora\.k: 64 is not allowed for layer .*; allowed: 1 to 32"),
        ({"rows": iter(())}, r"train_dataset: .* has no length or no index"),
        ({"rows": []}, r"train_dataset: has no rows; allowed: one or more"),
        ({"validation_dataset": iter(())}, r"validation_dataset: .* has no length or no index"),
        ({"rows": class_rows(1)}, r"--task\.validation_share: 0\.5 of 1 training rows"),
        ({"collate": lambda examples: 3}, r"collate: returns int; allowed: a dict of tensors"),
        ({"collate": lambda examples: {"a": [1]}}, r"collate: 'a' is list; allowed: a tensor"),
        ({"loss": lambda model, batch: 3.0}, r"loss: returns float; allowed: a scalar tensor"),
        ({"search": SearchConfig(steps=0)}, r"--search\.steps: 0 is not allowed"),
        ({"search": SearchConfig(steps="6")}, r"--search\.steps: '6' is not allowed; allowed: a whole number"),
        ({"precision": "bf61"}, r"--precision: 'bf61' is not allowed; allowed: auto, "),
        ({"seed": "1"}, r"--seed: '1' is not allowed; allowed: a whole number"),
        ({"search": SearchConfig(scheduler="linaer")}, r"--search\.scheduler: 'linaer' is not allowed; allowed: line"),
        ({"hypergradient": HypergradientConfig(type="exact")}, r"hypergradient: exact needs second derivatives"),
        ({"answer": AnswerConfig(from_run="runs/a")}, r"answer\.from_run: is not allowed here"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_changes_nothing(
    model_folder: Callable[..., Path], options: dict[str, Any], message: str
) -> None:
    model = classifier(model_folder("bert"))
    with left_as_it_was(model), pytest.raises(UserError, match=f"^{message}") as caught:
        learn(model, **options)
    assert "\n" not in str(caught.value)


def test_half_precision_is_refused(model_folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"^model: weights of type float16 are not allowed; allowed: float32"):
        learn(classifier(model_folder("bert")).half())
