"""The model card of a run that trained nothing."""

import ast
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from autolora.configs.parser import parse
from autolora.engine.export.card import save_card
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.run.folder import RunFolder
from autolora.problems.tasks import make_task
from autolora.problems.tasks.chat import Conversations
from tests.helpers.chat_toys import TURNS, chat_tokenizer

CHAT = ("--task.type", "chat", "--task.path", "x.jsonl")
RESULT = {
    "metrics": {"bleu": 0.61237, "protein.f1": 0.5}, "split": "test", "loss": 1.25, "lora_parameters": 12345,
}  # fmt: skip
RECORD = RankRecord(
    4,
    tuple(
        LayerRank(f"model.layers.{i}.self_attn.{x}", rank, (0.25,) * 4)
        for i, x, rank in ((0, "q", 3), (0, "v", 0), (1, "q", 1))
    ),
    lora_alpha=8.0,
    scale="component",
)


def card_of(
    folder: Path, arguments: tuple[str, ...], rows: list[dict[str, Any]], name: str = "org/base",
    whole: list[str] | None = None, record: RankRecord = RECORD, rank: int = 3,
) -> str:  # fmt: skip
    """The card of a run with these rows in predictions.jsonl."""
    place = RunFolder(folder)
    place.adapter.mkdir(exist_ok=True)
    settings = {"modules_to_save": whole, "rank_pattern": {"q": rank}, "r": rank}
    (place.adapter / "adapter_config.json").write_text(json.dumps(settings))
    if rows:
        place.written.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "x.jsonl"
    path.write_text(f"{json.dumps({'messages': TURNS})}\n" * 2)
    arguments = tuple(str(path) if word == "x.jsonl" else word for word in arguments)
    config = parse([*arguments, "--model.name", name, "--name", "mine"]).config
    task, tokenizer = make_task(config), chat_tokenizer()
    assert isinstance(task, Conversations)
    run: Any = SimpleNamespace(
        folder=place, task=task, tokenizer=tokenizer, config=config, weights_dtype=torch.float32,
        ends=task.ends(tokenizer),
    )  # fmt: skip
    save_card(run, RESULT, record)
    text = (place.adapter / "README.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", text, re.S):
        ast.parse(code)
    return text
