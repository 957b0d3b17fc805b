"""Which combinations of axes and variants a study runs."""

from autolora.configs.schema import StudyConfig
from autolora.engine.study.combinations import axes_of_study, combinations, named_values


def test_every_combination_is_there_and_variants_come_last() -> None:
    study = StudyConfig({"seed": [0, 1]}, {"a": {}, "b": {}})
    assert axes_of_study(study) == {"seed": [0, 1], "variant": ["a", "b"]}
    assert [tuple(values.values()) for values in combinations(study)] == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_an_excluded_one_is_left_out() -> None:
    study = StudyConfig({"seed": [0, 1]}, {"a": {}, "b": {}}, exclude=[{"variant": "b", "seed": [1, 2]}])
    assert [tuple(values.values()) for values in combinations(study)] == [(0, "a"), (0, "b"), (1, "a")]


def test_a_list_is_one_value_of_an_axis_of_lists() -> None:
    assert named_values([1, 2], [0, 1, 2]) == [1, 2]
    assert named_values(["q", "v"], [["q"], ["q", "v"]]) == [["q", "v"]]
    assert named_values([["q"], ["q", "v"]], [["q"], ["q", "v"]]) == [["q"], ["q", "v"]]
