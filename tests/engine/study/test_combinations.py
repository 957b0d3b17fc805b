"""Which combinations of a study's axes it runs."""

from autolora.configs.study import StudyConfig
from autolora.engine.study.combinations import combinations, named_values


def test_every_combination_is_there() -> None:
    study = StudyConfig(axes={"seed": [0, 1], "variant": {"a": {}, "b": {}}})
    assert [tuple(values.values()) for values in combinations(study)] == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_an_excluded_one_is_left_out() -> None:
    study = StudyConfig(
        axes={"seed": [0, 1], "variant": {"a": {}, "b": {}}}, exclude=[{"variant": "b", "seed": [1, 2]}]
    )
    assert [tuple(values.values()) for values in combinations(study)] == [(0, "a"), (0, "b"), (1, "a")]


def test_a_list_is_one_value_of_an_axis_of_lists() -> None:
    assert named_values([1, 2], [0, 1, 2]) == [1, 2]
    assert named_values(["q", "v"], [["q"], ["q", "v"]]) == [["q", "v"]]
    assert named_values([["q"], ["q", "v"]], [["q"], ["q", "v"]]) == [["q"], ["q", "v"]]
