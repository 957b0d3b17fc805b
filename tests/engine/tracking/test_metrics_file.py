"""A file of one JSON object a line is cut where a search resumes, and read past a line that a kill broke."""

import math
from pathlib import Path

from autolora.engine.tracking.metrics_file import MetricsFile


def test_cut_after_drops_later_and_broken_lines(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "search" / "m.jsonl")
    assert file.read() == []
    file.cut_after(3)
    for step in (2, 4, 6):
        file.add({"step": step, "x": step / 3, "bad": math.nan})
    with open(file.path, "a") as raw:
        raw.write('{"step": 4, "x"')
    assert [line["step"] for line in file.read()] == [2, 4, 6]
    file.cut_after(4)
    assert file.read() == [{"step": step, "x": step / 3, "bad": None} for step in (2, 4)]
    assert file.path.read_text().count("\n") == 2
    file.cut_after(0)
    assert file.read() == []
