"""The page about a run: it holds the numbers of its files, and it is there for ranks by hand, too."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.report.stage import write_report
from autolora.engine.run.folder import RunFolder
from tests.helpers.rank_records import answered_record
from tests.helpers.verdict_file import FOUND


def words_of(folder: RunFolder) -> str:
    """What a person reads of a page, a blank between two words."""
    content = folder.report.read_text(encoding="utf-8")
    return " ".join(html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", content, flags=re.S)).split())


@pytest.mark.trains
def test_the_page_of_a_run_shows_result_ranks_and_configuration(finished_run: Callable[..., RunFolder]) -> None:
    folder = finished_run("bert")
    text = words_of(folder)
    result, record = json.loads(folder.metrics.read_text()), json.loads(folder.ranks.read_text())
    assert f"accuracy {result['metrics']['accuracy']:.3f}" in text
    assert f"lora parameters {result['lora_parameters']:,}" in text
    for layer in record["layers"]:
        assert f"{layer['name']} {layer['rank']} {layer['alpha'][0]:.3f}" in text
    assert " ".join(folder.config.read_text().split()) in text
    drawn = {path.stem for path in folder.figures.iterdir()} - {"curve", "shares"}  # where LoRA learned something
    assert drawn == {"ranks", "alpha", "losses", "hypergradient", "cosine", "retrain_loss"}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "runs" / "tiny")
    made.search.mkdir(parents=True)
    return made


def answered(folder: RunFolder, **changes: Any) -> None:
    """A folder with a record that D_val has said something of."""
    record = answered_record(**changes)
    ranks.save(record, folder.ranks)
    write_json(folder.search_summary, {"parameters_per_rank": {layer.name: 100 for layer in record.layers}})


def test_the_page_says_what_d_val_says(tiny_config: Callable[..., RunConfig], folder: RunFolder) -> None:
    answered(folder, note="D_val was small")
    assert {"shares", "curve", "ranks"} <= write_report(tiny_config(), folder).keys()
    text = words_of(folder)
    assert "Rank 2 is enough: cut to it, the searched model loses at most 5 % of the gain" in text
    assert "the same rank everywhere 2 600 0.308 0.960" in text
    assert re.search(r"0 query 3 0\.96\S+ \S+ \S+ 0 value 1 0\.03\S+ -0\.01\S+ 0\.08", text)
    assert text.count("D_val was small") == 1


def test_the_page_shows_every_arm_of_a_verdict(tiny_config: Callable[..., RunConfig], folder: RunFolder) -> None:
    write_json(folder.verdict_summary, FOUND)
    assert list(write_report(tiny_config(), folder)) == ["verdict"]
    text = words_of(folder)
    assert all(words in text for words in (FOUND["sentence"], FOUND["recommendation"]))
    assert "shuffled 100 0.700 0.500" in text


@pytest.mark.trains
def test_stage_report_draws_ranks_written_by_hand(tiny_config: Callable[..., RunConfig], folder: RunFolder) -> None:
    """Neither a search nor a config.yaml is there."""
    names = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(3) for p in "qv"]
    layers = [{"name": n, "rank": i} for i, n in enumerate(names)]
    folder.ranks.write_text(json.dumps({"layers": layers, "note": "an expert's guess"}))
    write_report(tiny_config(), folder)
    assert [path.name for path in folder.figures.iterdir()] == ["ranks.png"]
    text = words_of(folder)
    assert all(words in text for words in (*names, "An expert's guess."))
