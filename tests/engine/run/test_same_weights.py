"""The base model that was loaded is compared with those that earlier work in the folder began with."""

from collections.abc import Callable

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.run.resuming import Outdated
from autolora.engine.run.same_data import refuse_changed_data
from autolora.engine.run.same_weights import KnownWeights


def test_the_same_weights_pass_and_are_remembered(log_lines: list[str]) -> None:
    weights = KnownWeights()
    weights.expect("a", "the run began with", "bring it back")
    weights.expect(None, "nobody recorded", "bring it back")
    weights.check("a", "org/base")
    assert weights.loaded == "a"
    assert log_lines == []


def test_other_weights_are_refused_once_they_are_loaded() -> None:
    weights = KnownWeights()
    weights.expect("a", "the run began with", "bring it back")
    with pytest.raises(
        Outdated, match=r"^--model\.name: org/base no longer has the weights that the run began with; bring it back$"
    ):
        weights.check("b", "org/base")


def test_where_other_weights_are_allowed_they_are_said_once(log_lines: list[str]) -> None:
    weights = KnownWeights()
    weights.expect("a", "the ranks were chosen with", None)
    weights.check("b", "org/base")
    weights.check("b", "org/base")  # a sweep loads the model for each of its trials
    assert log_lines == [
        "WARNING --model.name: org/base no longer has the weights that the ranks were chosen with; they are taken as "
        "they are"
    ]


def test_a_run_records_its_base_model_and_compares_it(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    first = run_of(tiny_config())
    assert "weights" not in first.fingerprint, "it is not loaded yet"
    first.base()
    recorded = first.fingerprint
    again = run_of(tiny_config())
    refuse_changed_data(again, recorded)
    again.base()
    assert again.fingerprint == recorded
    other = run_of(tiny_config())
    refuse_changed_data(other, recorded | {"weights": "x"})
    with pytest.raises(Outdated, match="no longer has the weights that the half-done run in "):
        other.base()
