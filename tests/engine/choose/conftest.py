"""The runs of these tests measure shares and curve."""

from collections.abc import Callable

import pytest

from autolora.configs.schema import RunConfig
from tests.helpers.tiny import MEASURED


@pytest.fixture
def tiny_config(tiny_config: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """As the `tiny_config` of all tests, with a measured answer."""
    return lambda *arguments, **options: tiny_config(*MEASURED, *arguments, **options)
