"""search/metrics.jsonl and retrain_metrics.jsonl: one JSON object for each logged step."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.engine.disk.files import is_number, write_text

log = logging.getLogger("autolora")


class MetricsFile:
    """A file with one JSON object a line, each with its `step`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, values: Mapping[str, Any]) -> None:
        """Appends one line; a number that is not finite becomes null, as JSON has no NaN."""
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def cut_after(self, step: int) -> None:
        """Drops the lines after `step`: a search that resumes from its checkpoint writes them again."""
        lines = [line for line in self.read() if line["step"] <= step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def read(self) -> list[dict[str, Any]]:
        """All intact lines. Logs a warning about damaged ones, but none about a last line that a kill cut in half.

        Raises UserError that names the file when the file cannot be read.
        """
        if not self.path.exists():
            return []
        try:
            texts = self.path.read_bytes().split(b"\n")
        except OSError as error:
            raise UserError(
                f"{self.path}: not readable ({error.strerror}); remove it, and the report is drawn without its losses"
            ) from error
        lines = [_parsed(text) for text in texts]
        damaged = [number for number, line in enumerate(lines[:-1], start=1) if line is None]
        if damaged:
            log.warning(
                "%s: %d damaged line(s), the first is line %d; they are left out", self.path, len(damaged), damaged[0]
            )
        return [line for line in lines if line is not None]


def _parsed(text: bytes) -> dict[str, Any] | None:
    """The object in a line; None for a line that `add` would not have written."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not isinstance(line.get("step"), int):
        return None
    if not all(value is None or is_number(value) for value in line.values()):
        return None
    return line
