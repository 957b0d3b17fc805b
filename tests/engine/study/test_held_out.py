"""The held-out loss of a finished training."""

from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.held_out import held_out_loss
from tests.helpers.finished import write_finished


def test_it_is_the_mean_over_labels_of_all_held_out_rows(tmp_path: Path) -> None:
    assert held_out_loss(RunFolder(write_finished(tmp_path, "a", "lora", 0.7))) == pytest.approx(0.7)


def test_rows_without_losses_are_named(tmp_path: Path) -> None:
    folder = write_finished(tmp_path, "a", "lora", None)
    with pytest.raises(UserError, match=r"row_losses\.parquet: does not exist; --retrain\.row_losses true"):
        held_out_loss(RunFolder(folder))
