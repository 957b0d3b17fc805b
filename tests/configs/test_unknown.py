"""An unknown key is answered by what the user may have meant."""

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.configs.unknown import unknown_key
from autolora.configs.values import with_values

UNKNOWN = {
    "lora.kk": "lora.k",  # a slip of the pen
    "lora.patience": "search.patience",  # in a section where it is not: the same word before a word that looks like it
}


@pytest.mark.parametrize("key", UNKNOWN)
def test_an_unknown_key_comes_with_the_nearest(key: str) -> None:
    assert unknown_key(key) == f"unknown key {key!r}; did you mean {UNKNOWN[key]!r}?"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("checkpoint_every", "'search.checkpoint_every' or 'retrain.checkpoint_every'"),  # its section left out
        ("lora.learning_rate", "'search.learning_rate' or 'retrain.learning_rate'"),
        ("lora.ranks", "'lora.ranks_from' or 'lora.trials'"),  # the beginning of one, and near to another
    ],
)
def test_an_unknown_key_comes_with_all_that_are_as_near(key: str, said: str) -> None:
    assert unknown_key(key) == f"unknown key {key!r}; did you mean {said}?"


@pytest.mark.parametrize("key", ["qqqqqq", "optimizer", "num_workers", "verbose", "debug"])
def test_a_key_that_is_near_to_none_gets_no_guess(key: str) -> None:
    assert unknown_key(key) == f"unknown key {key!r}; --help lists the keys"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("lr", "'search.learning_rate' or 'retrain.learning_rate'"),
        ("learning-rate", "'search.learning_rate' or 'retrain.learning_rate'"),
        ("search.lr", "'search.learning_rate'"),
        ("training.lr", "'search.learning_rate' or 'retrain.learning_rate'"),
        ("batch_size", "'search.batch_size' or 'retrain.batch_size'"),
        ("per-device-train-batch-size", "'search.batch_size' or 'retrain.batch_size'"),
        ("epochs", "'retrain.epochs'"),
        ("output_dir", "'name' or 'runs_folder'"),
        ("BF16", "'precision'"),
        ("gpus", "'device'"),
        ("study.gpus", "'study.ray.gpus'"),
        ("dataset", "'task.path'"),
        ("task.dataset", "'task.path'"),
        ("model.path", "'model.name'"),
        ("lora.rank", "'lora.r' or 'lora.k'"),
        ("lora.lora_dropout", "'lora.dropout'"),
        ("lora_alpha", "'lora.lora_alpha'"),
        ("lora.use_rslora", "'retrain.scale'"),
        ("wandb", "'tracking.wandb'"),
    ],
)
def test_a_name_of_another_trainer_is_answered_by_the_key_of_the_same_meaning(key: str, said: str) -> None:
    assert unknown_key(key) == f"unknown key {key!r}; did you mean {said}?"


def test_what_needs_no_key_is_said() -> None:
    for key in ("resume", "resume-from-checkpoint"):
        assert unknown_key(key) == f"unknown key {key!r}; the same command resumes a stopped run"


def test_what_is_not_supported_is_said() -> None:
    """--lora.use_dora was answered by lora.draw."""
    for key in ("lora.use_dora", "use-dora", "dora"):
        assert unknown_key(key) == f"unknown key {key!r}; DoRA is not supported: ranks are learned for LoRA alone"


def test_a_key_that_a_study_cannot_vary_is_not_proposed_as_itself() -> None:
    with pytest.raises(UserError, match=r"^unknown key 'stage'; (?!did you mean 'stage')"):
        with_values(RunConfig(), {"stage": "search"})
