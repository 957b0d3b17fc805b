"""search/metrics.jsonl and retrain_metrics.jsonl: one JSON object for each logged step."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.engine.disk.files import read_json_lines, write_text


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
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in self.read() if line["step"] <= step))

    def read(self) -> list[dict[str, Any]]:
        """All lines, without a last one that a kill cut in half."""
        return read_json_lines(self.path)
