"""An unknown key is answered by what the user may have meant."""

import pytest

from configs.errors import UserError
from configs.schema import RunConfig
from configs.unknown import unknown_key
from configs.values import with_values

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
        ("batch_size", "'search.batch_size', 'retrain.batch_size' or 'decode.batch_size'"),  # its section left out
        ("lora.learning_rate", "'search.learning_rate' or 'retrain.learning_rate'"),
        ("lora.rank", "'lora.r', 'lora.k' or 'lora.ranks_from'"),  # the beginning of one, and near to two others
    ],
)
def test_an_unknown_key_comes_with_all_that_are_as_near(key: str, said: str) -> None:
    assert unknown_key(key) == f"unknown key {key!r}; did you mean {said}?"


def test_a_key_that_is_near_to_none_gets_no_guess() -> None:
    assert unknown_key("qqqqqq") == "unknown key 'qqqqqq'; --help lists the keys"


def test_a_key_that_a_study_cannot_vary_is_not_proposed_as_itself() -> None:
    with pytest.raises(UserError, match=r"^unknown key 'stage'; (?!did you mean 'stage')"):
        with_values(RunConfig(), {"stage": "search"})
