"""What the tests of faults share."""

from collections.abc import Callable
from pathlib import Path

Argv = Callable[..., list[str]]
LONG = ("--search.steps", "100000", "--search.patience", "0", "--retrain.max_steps", "100000")


def one_line(output: Path) -> str:
    """The one line of the output that begins with "error: "; there is no traceback."""
    text = output.read_text()
    assert "Traceback" not in text, text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    return line
