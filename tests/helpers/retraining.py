"""Retrainings of a tiny BERT at given ranks, without a search before them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.engine.store.folder import RunFolder

RANKS = {f"bert.encoder.layer.{i}.attention.self.query": 2 + i for i in (0, 1)}
FEW = ("--task.train_rows", "20", "--task.evaluation_rows", "80", "--lora.dropout", "0.1")


def with_ranks(config: RunConfig, ranks: Mapping[str, int] = RANKS) -> tuple[RunConfig, RunFolder]:
    """`config` with its run folder, in which ranks of k = 4 lie as a search would have left
    them."""
    folder = RunFolder(Path(config.runs_folder) / str(config.name))
    folder.root.mkdir(parents=True)
    layers = [{"name": name, "rank": rank} for name, rank in ranks.items()]
    folder.ranks.write_text(json.dumps({"k": 4, "layers": layers}))
    return config, folder


def retrain(config: RunConfig) -> None:
    """Stage 2 of `config` alone."""
    run_stages(Request(config, "retrain", False, "x"), StopRequest(), draw=False)


def rows_of(batches: list[dict[str, Any]]) -> list[tuple[int, ...]]:
    """The sentences, without padding."""
    return [
        tuple(t for t, real in zip(ids, mask, strict=True) if real)
        for batch in batches
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
