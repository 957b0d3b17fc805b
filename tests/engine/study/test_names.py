"""Names of a study's cells."""

import re
from collections.abc import Callable

import pytest

from autolora.configs.layers import with_values
from autolora.configs.schema import RunConfig
from autolora.engine.study.names import cell_name, cell_names


def test_cell_names_are_folder_names() -> None:
    assert cell_name({"hypergradient.eta": "lr", "model.name": "a/b: c"}) == "eta-lr_name-a-b-c"
    values = {"task.train_rows": None, "search.dropout": True, "retrain.learning_rate": [1e-3, 3e-3]}
    assert cell_name(values) == "train_rows-null_dropout-true_learning_rate-0.001-0.003"


@pytest.mark.parametrize("value", ["x" * 5000, "é" * 300, 10**400])
def test_a_cell_s_name_leaves_room_for_hidden_siblings(tiny_config: Callable[..., RunConfig], value: object) -> None:
    name = cell_name({"seed": 0, "task.path": value, "model.name": value})
    assert len(f".{name}.overwrite".encode()) <= 255
    assert with_values(tiny_config(), {"name": name}).name == name


def test_long_names_that_differ_at_their_ends_are_told_apart() -> None:
    """The seed was cut off, and the study refused."""
    long = {"task.path": "/data/" + "x" * 200, "method": "lora"}
    names = {cell_name({**long, "seed": seed}) for seed in (0, 1)}
    assert len(names) == 2
    assert {len(name) for name in names} == {100}
    assert cell_name({**long, "seed": 0}) in names, "always the same"


def test_keys_that_end_alike_are_told_apart_in_the_name() -> None:
    values = {"search.learning_rate": 1e-3, "seed": 0, "retrain.learning_rate": 1e-5}
    assert cell_name(values) == "search.learning_rate-0.001_seed-0_retrain.learning_rate-1e-05"


@pytest.mark.parametrize(
    ("one", "other"),
    [("é", "ü"), ("größe", "gräße"), ("日本", "中国"), ("a b", "a/b"), ("Wide", "wide"), ("x " * 99, "x/" * 99)],
)
def test_values_that_would_make_one_folder_have_names_of_their_own(one: str, other: str) -> None:
    """The study was refused, or, on macOS, two cells had one folder."""
    first, second = cell_names([{"variant": one}, {"variant": other}])
    assert first.casefold() != second.casefold()
    for name in (first, second):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name)
    assert first == cell_name({"variant": one}), "it finds its finished folder when another value is added"


def test_a_name_of_other_letters_does_not_depend_on_the_other_cells() -> None:
    assert cell_names([{"variant": "ü"}])[0] in cell_names([{"variant": "é"}, {"variant": "ü"}])
    assert re.fullmatch(r"variant-[0-9a-f]{8}", cell_name({"variant": "é"}))


def test_equal_values_have_equal_names() -> None:
    """The study then says that two cells would have one name."""
    assert cell_names([{"seed": 0}, {"seed": "0"}]) == ["seed-0", "seed-0"]
    one, *others = cell_names([{"variant": name} for name in ("a b", "a/b", "a/b")])
    assert (one, len(set(others))) == ("variant-a-b", 1)
