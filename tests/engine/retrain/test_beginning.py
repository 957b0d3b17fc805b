"""A training begins with its last check; only then are files written that make the folder count as begun."""

from collections.abc import Callable

import pytest

from configs.errors import UserError
from configs.schema import RunConfig
from engine.retrain.beginning import begin
from engine.retrain.methods import METHODS
from engine.run import memory
from engine.run.context import Context


@pytest.mark.trains
def test_a_training_without_room_writes_nothing(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_config("--method", "lora"))
    data = run.data
    prepared = METHODS["lora"].prepare(run.base(), run, len(data.train))
    with monkeypatch.context() as patched:
        patched.setattr(memory, "free", lambda compute: 1000.0)
        with pytest.raises(UserError, match=r"^--retrain\.batch_size: the retraining needs about"):
            begin(run, prepared, data)
    assert not run.folder.config.exists()
    assert not run.folder.ranks.exists()
    begin(run, prepared, data)
    assert run.folder.config.exists()
    assert run.folder.ranks.exists()


@pytest.mark.trains
def test_the_head_alone_has_no_ranks(tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]) -> None:
    run = run_of(tiny_config("--method", "head"))
    data = run.data
    begin(run, METHODS["head"].prepare(run.base(), run, len(data.train)), data)
    assert run.folder.config.exists()
    assert not run.folder.ranks.exists()
