"""The pages: links lead somewhere; in the README and under docs/ the keys and files that they name
exist."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.layers import keys
from autolora.engine.measure.evidence import Evidence
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.problems.models.attach import lora_layers
from tests.helpers import kinds
from tests.helpers.markdown import PAGES, RESULTS, anchors, blocks, text_of
from tests.helpers.paths import ROOT

KEYS = set(keys())
SECTIONS = {key.rpartition(".")[0] for key in KEYS if "." in key}


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    missing = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text_of(page)):
        if "://" in target:
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(text_of(path))):
            missing.append(f"{target}#{anchor}")
    assert missing == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name
)
def test_keys_exist(page: Path) -> None:
    words = set(re.findall(r"`(?:--)?([a-z_]+(?:\.[a-z0-9_]+)+)", text_of(page)))
    # `task.path` is a key, `search.steps` too; `glue.py` is in no section, and `verdict.json` is a
    # file.
    named = {
        word
        for word in words
        if word.split(".")[0] in SECTIONS and not word.endswith((".json", ".yaml", ".gguf", ".py"))
    }
    assert {word for word in named if not word.startswith("study.axes.")} <= KEYS | SECTIONS


def test_the_books_are_short() -> None:
    manual = [
        page for page in PAGES if page.parent.name == "docs" and page.name != "configuration.md"
    ]
    readme = text_of(ROOT / "README.md")
    assert len(readme.split()) <= 2_000
    assert sum(len(text_of(page).split()) for page in manual) + len(readme.split()) <= 20_000
    assert sum(len(text_of(page).split()) for page in RESULTS) <= 8_600


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configurations_source_files_and_folders_exist(page: Path) -> None:
    text = text_of(page)
    sources = re.findall(r"`((?:engine|problems|configs|benchmarks|tests)/[\w/]*(?:\.\w+)?)`", text)
    assert [name for name in sources if not (ROOT / name).exists()] == []
    shipped = {path.name for path in (ROOT / "configs").glob("*.yaml")}
    named = set(re.findall(r"--config ([\w]+\.yaml)", text))
    assert named <= shipped | {"x.yaml", "my.yaml"}


def test_the_table_of_adapters_is_made_of_the_cases_that_run() -> None:
    """Print it by `python -m tests.helpers.kinds`."""
    assert kinds.table() in text_of(ROOT / "docs" / "adapters.md")


def example_with(word: str) -> str:
    """The block of Python of docs/api.md that has this word."""
    (code,) = (code for code in blocks(text_of(ROOT / "docs" / "api.md"), "python") if word in code)
    return code


@pytest.mark.soak
def test_the_example_of_a_script_runs_where_it_is_pasted(tmp_path: Path) -> None:
    """It prints the ranks, and writes only what it says."""
    (tmp_path / "mine.py").write_text(example_with("MiniLM"), encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    start = [sys.executable, "mine.py"]
    done = subprocess.run(
        start, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ranks (shares, " in done.stdout
    assert "'bert.encoder.layer.5.attention.self.value': " in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["learned", "mine.py"]
    assert sorted(path.name for path in (tmp_path / "learned").iterdir()) == [
        "lora_config",
        "ranks.json",
    ]
    assert json.loads((tmp_path / "learned" / "ranks.json").read_text())["k"] == 8


@pytest.mark.trains
def test_the_example_of_a_plain_torch_model_runs() -> None:
    """PEFT gives its model the ranks."""
    names: dict[str, Any] = {}
    exec(example_with("nn.Sequential("), names)
    ranks = names["learned"].ranks
    assert set(ranks) == {"0", "2", "4"}
    assert sum(ranks.values()) == 3
    given = {name: layer.r["default"] for name, layer in lora_layers(names["model"]).items()}
    assert given == {name: rank for name, rank in ranks.items() if rank}


@pytest.mark.trains
def test_the_table_of_metrics_json_has_its_keys(finished: Callable[..., Path]) -> None:
    section = (
        text_of(ROOT / "docs" / "run-folder.md").split("`metrics.json` has:")[1].split("## ")[0]
    )
    explained = {
        name
        for row in re.findall(r"^\| (`.*?) \|", section, re.M)
        for name in re.findall(r"`(\w+)`", row)
    }
    parts = {"search", "measure", "retrain", "total"}  # those of `seconds`
    written = set(json.loads((finished() / "metrics.json").read_text()))
    assert written - {"label_scale"} == explained - parts - {"label_scale"}


def test_every_key_of_ranks_json_is_explained() -> None:
    text = text_of(ROOT / "docs" / "run-folder.md")
    section = text.split("## What is in ranks.json?")[1].split("## ")[0]
    named = {
        field.name
        for kind in (RankRecord, LayerRank, Evidence)
        for field in dataclasses.fields(kind)
    }
    keys = {"lambda", "mean_rank", "sufficient_rank", *named - {"threshold", "evidence"}}
    assert {key for key in keys if f"`{key}`" not in section} == set()
