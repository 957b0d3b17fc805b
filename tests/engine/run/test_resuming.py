"""The keys that a stage declares are compared, all others may change."""

from collections.abc import Callable

import pytest

from autolora.configs.errors import UserError
from autolora.configs.keys import known_keys
from autolora.configs.schema import RunConfig
from autolora.engine.run.resuming import Settings


def test_a_section_stands_for_its_keys_less_those_left_out(tiny_config: Callable[..., RunConfig]) -> None:
    found = Settings(("seed", "decode"), but=("decode.batch_size",)).of(tiny_config("--seed", "3"))
    assert found["seed"] == 3
    decode = {key for key in known_keys() if key.startswith("decode.")} - {"decode.batch_size"}
    assert set(found) == {"seed"} | decode


def test_a_key_is_no_section_of_a_key_that_begins_alike(tiny_config: Callable[..., RunConfig]) -> None:
    assert set(Settings(("retrain.learning_rate",)).of(tiny_config())) == {"retrain.learning_rate"}


@pytest.mark.parametrize(
    ("arguments", "evaluates", "compared"),
    [
        (("--task.type", "glue", "--task.name", "sst2"), False, False),
        (("--task.type", "glue", "--task.name", "sst2"), True, True),
        (("--task.type", "text", "--task.path", "t.csv"), False, True),
    ],
)
def test_the_split_of_a_users_table_decides_which_rows_are_trained_on(
    tiny_config: Callable[..., RunConfig], arguments: tuple[str, ...], evaluates: bool, compared: bool
) -> None:
    settings = Settings(("task",), evaluates=evaluates).of(tiny_config(*arguments))
    assert ("task.evaluation_split" in settings) == compared


def test_the_first_changed_key_is_named_with_both_values(tiny_config: Callable[..., RunConfig]) -> None:
    settings = Settings(("seed", "search"))
    recorded = settings.of(tiny_config())
    settings.refuse_changed(recorded, tiny_config("--retrain.epochs", "9"), "it holds work with")
    with pytest.raises(UserError, match=r"^--search\.steps: it holds work with 6, now it is 9; give the old value"):
        settings.refuse_changed(recorded, tiny_config("--search.steps", "9"), "it holds work with")


def test_a_key_that_was_not_recorded_is_not_compared(tiny_config: Callable[..., RunConfig]) -> None:
    Settings(("seed",)).refuse_changed({}, tiny_config("--seed", "5"), "it holds work with")


@pytest.mark.parametrize("change", [("--search.steps", "9"), ("--hypergradient.type", "sama"), ("--lora.budget", "1")])
def test_a_key_that_nothing_reads_may_change(tiny_config: Callable[..., RunConfig], change: tuple[str, str]) -> None:
    """Such as a setting of the search in a file that a study of several methods shares."""
    settings = Settings(("search", "hypergradient", "lora.budget"))
    settings.refuse_changed(
        settings.of(tiny_config("--method", "lora")), tiny_config("--method", "lora", *change), "it holds work with"
    )


def test_values_are_written_as_the_command_line_takes_them(tiny_config: Callable[..., RunConfig]) -> None:
    for key, old, new, words in (
        ("task.metrics", None, "[f1_macro]", r"made with null, now it is \['f1_macro'\]; "),
        ("search.dropout", True, "false", "made with true, now it is false; "),
    ):
        with pytest.raises(UserError, match=rf"^--{key}: {words}"):
            Settings((key,)).refuse_changed({key: old}, tiny_config(f"--{key}", new), "made with")
