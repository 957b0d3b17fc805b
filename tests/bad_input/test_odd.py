"""Data and settings that look wrong and are right: the run trains on them to its end."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.helpers.bad_input import ROWS, Command, csv
from tests.helpers.undrawn import undrawn

BATCHES = ("--search.batch_size", "512", "--retrain.batch_size", "512")
ODD: dict[str, tuple[str, tuple[str, ...]]] = {
    "k of 1": (csv(ROWS), ("--lora.k", "1")),
    "a text of 100,000 words, and a D_val without its class": (
        csv([*[("a film", "bad")] * 20, ("room " * 100_000, "good")]),
        ("--task.max_length", "16", "--task.holdout_share", "0.05"),
    ),
    "a byte order mark, an unused column, repeated rows, and batches of more rows than there are": (
        "\ufeffid,text,label\n" + "7,a film,bad\n7,a room,good\n" * 6,
        ("--task.train_rows", "1000000", *BATCHES),
    ),
}


@pytest.mark.trains
@pytest.mark.parametrize("case", ODD)
def test_a_run_on_odd_input_ends_with_its_result(command: Command, tmp_path: Path, case: str) -> None:
    content, more = ODD[case]
    (tmp_path / "d.csv").write_text(content, encoding="utf-8")
    small = ("--search.steps", "2", "--retrain.max_steps", "1")
    with nullcontext() if case == "k of 1" else undrawn():
        code, lines = command("--task.type", "text", "--task.path", "{here}/d.csv", *small, *more)
    assert code == 0, lines
    assert (tmp_path / "runs" / "tiny" / "metrics.json").exists()
