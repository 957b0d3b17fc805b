"""The shapes of a run folder's JSON files: which keys they must have, and which values they refuse."""

from typing import Any

import pytest
from pydantic import ValidationError

from autolora.engine.run.shapes import Result, Rows
from tests.helpers.finished import RESULT


def test_a_written_result_has_the_shape_and_may_have_unknown_keys() -> None:
    Result.model_validate({**RESULT, "of a later version": 1})


@pytest.mark.parametrize("key", [name for name, field in Result.model_fields.items() if field.is_required()])
def test_a_result_without_a_key_that_it_must_have_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        Result.model_validate({name: value for name, value in RESULT.items() if name != key})


@pytest.mark.parametrize("count", [-1, 2**63, 1.5, "3", None])
def test_a_count_is_a_whole_number_that_fits_into_64_bits(count: Any) -> None:
    Rows.model_validate({"rows": 3, "sha256": "a"})
    with pytest.raises(ValidationError, match="rows"):
        Rows.model_validate({"rows": count, "sha256": "a"})


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValidationError, match="peak_memory_mib"):
        Result.model_validate({**RESULT, "peak_memory_mib": float("nan")})
