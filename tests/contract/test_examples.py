"""The scripts to paste in examples/ run as they stand, here with few rows and steps."""

import re
import runpy
from pathlib import Path

import pytest
from peft import PeftConfig

from tests.contract.readers import read
from tests.helpers.paths import ROOT

FEW = {
    r"max_steps(\"?[=:]) ?\d+": r"max_steps\1 2",
    r'read\("(\w+)", \d+\)': r'read("\1", 24)',
    r"keep=0.95": "rank=4",
    r'"rows": 240': '"rows": 8, "curve_ranks": [1]',
    r"\*\*sections": '**sections, search={"steps": 3}',
}


def run_example(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the example in `folder`, with few rows and steps."""
    text = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert 30 <= len(text.splitlines()) <= 60
    for pattern, few in FEW.items():
        text = re.sub(pattern, few, text)
    script = folder / "script.py"
    script.write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    runpy.run_path(str(script))


@pytest.mark.slow
def test_an_adapter_is_measured_and_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_example("measure_an_adapter", tmp_path, monkeypatch)
    assert "LoRA off" in capsys.readouterr().out
    cut = PeftConfig.from_pretrained(str(tmp_path / "smaller"))
    assert cut.r <= 16


@pytest.mark.slow
def test_ranks_are_learned_and_trained_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("learn_ranks_with_trainer", tmp_path, monkeypatch)
    learned = read(tmp_path / "learned" / "adapter_config.json")
    assert learned["peft_type"] == "LORA"
    assert learned["rank_pattern"]
