"""Configuration files and rank records that are broken: one line that names the thing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.bad_input import Begin, Command, ends_with_code_2, refused

YAML: dict[str, tuple[str | bytes, str]] = {
    "unclosed": ("search: {steps: 3", "bad.yaml"),
    "tabs": ("search:\n\tsteps: 3", "bad.yaml"),
    "a list": ("- a\n- b\n", "bad.yaml"),
    "a word": ("hello", "bad.yaml"),
    "unknown key": ("search:\n  stpes: 3\n", "bad.yaml: unknown key 'search.stpes'; did you mean 'search.steps'?"),
    "wrong type": ("search:\n  steps: many\n", "search.steps"),
    "a section that is a number": ("search: 3\n", "search"),
    "a null section": ("search:\n", "search"),
    "python objects": ("name: !!python/object/apply:os.system ['touch {here}/owned']\n", "bad.yaml"),
    "bytes that are not UTF-8": (b"name: \xff\xfe\n", "bad.yaml"),
    "zeros": (b"\x00\x00", "bad.yaml"),
}


@pytest.mark.parametrize("case", YAML)
def test_configuration_files(begin: Begin, tmp_path: Path, case: str) -> None:
    content, word = YAML[case]
    data = content if isinstance(content, bytes) else content.replace("{here}", str(tmp_path)).encode()
    (tmp_path / "bad.yaml").write_bytes(data)
    refused(begin, tmp_path, ("--config", "{here}/bad.yaml"), (word,))


def test_a_broken_configuration_file_ends_the_command(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("search: {steps: 3")
    ends_with_code_2(command, tmp_path, ("--config", "{here}/bad.yaml"), ("bad.yaml",))


def ranks(*layers: Any, **more: Any) -> str:
    return json.dumps({"layers": list(layers), **more})


QUERY = "bert.encoder.layer.0.attention.self.query"
RANKS: Mapping[str, tuple[str | bytes, tuple[str, ...]]] = {
    "empty": ("", ("ranks.json",)),
    "not JSON": ("{", ("ranks.json",)),
    "not UTF-8": (b"\xff\xfe\xff", ("ranks.json",)),
    "a list": ("[]", ("layers",)),
    "no layers": ('{"layers": []}', ("layers",)),
    "layers that are a number": ('{"layers": 3}', ("layers",)),
    "a layer without name": (ranks({"rank": 2}), ("layers[0]",)),
    "a negative rank": (ranks({"name": QUERY, "rank": -1}), ("layers[0]", "-1")),
    "half a rank": (ranks({"name": QUERY, "rank": 1.5}), ("1.5",)),
    "a rank of true": (ranks({"name": QUERY, "rank": True}), ("True",)),
    "a rank in words": (ranks({"name": QUERY, "rank": "two"}), ("two",)),
    "a rank above the layer's side": (ranks({"name": QUERY, "rank": 33}), (QUERY, "0 to 32")),
    "only zeros": (ranks({"name": QUERY, "rank": 0}), ("ranks.json",)),
    "only zeros, with k": (ranks({"name": QUERY, "rank": 0}, k=8), ("every rank is 0",)),
    "a layer twice": (ranks({"name": QUERY, "rank": 1}, {"name": QUERY, "rank": 2}), ("twice",)),
    "another model's layer": (ranks({"name": "model.layers.0.q_proj", "rank": 1}), ("the nearest is",)),
    "k of 0": (ranks({"name": QUERY, "rank": 1}, k=0), ("k is 0",)),
    "alpha of words": (ranks({"name": QUERY, "rank": 1, "alpha": ["a"]}), ("alpha",)),
    "a module that takes no LoRA": (ranks({"name": "embeddings.LayerNorm", "rank": 1}), ("embeddings.LayerNorm",)),
}


@pytest.mark.parametrize("case", RANKS)
def test_rank_records_edited_by_hand(begin: Begin, tmp_path: Path, case: str) -> None:
    content, words = RANKS[case]
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "ranks.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(begin, tmp_path, ("--stage", "retrain"), words)


def test_a_broken_rank_record_ends_the_command(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "ranks.json").write_text(ranks({"name": QUERY, "rank": -1}))
    ends_with_code_2(command, tmp_path, ("--stage", "retrain"), ("layers[0]", "-1"))
