"""One export for each family of models, shared by the tests of all its forms, and one search of a language model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from tests.helpers.chat_toys import chat_arguments, chat_rows, save_chat_model
from tests.helpers.exports import LORA_ALPHA, Exported, make_export
from tests.helpers.shared import made_once


@pytest.fixture(
    scope="session",
    params=[("bert", "component"), ("roberta", "rslora"), ("gpt2", "fixed"), ("llama", "mean_rank")],
    ids="-".join,
)
def exported(
    request: pytest.FixtureRequest,
    model_folder: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
    make_config: Callable[..., RunConfig],
) -> Exported:
    kind, scale = request.param
    arguments = ["--export.merged", "true", "--export.padded", "true", "--retrain.scale", scale]
    arguments += ["--lora.lora_alpha", str(LORA_ALPHA), "--retrain.learning_rate", "3e-2"]
    config = make_config(tmp_path_factory.mktemp("exported"), kind, *arguments)
    return make_export(config, kind, model_folder(kind))


@pytest.fixture(scope="session")
def chat_search(shared_folder: Path) -> tuple[RunFolder, Path]:
    """A search of conversations that dropped layers, and its base model; do not write."""

    def search(folder: Path) -> None:
        data = folder / "messages.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in chat_rows()))
        argv = chat_arguments(save_chat_model(folder / "model"), data, folder / "runs")
        rule = ["--answer.rule", "size", "--answer.budget", "1.25", "--answer.rows", "0", "--search.steps", "8"]
        rates = ["--search.learning_rate", "3e-2", "--lora.lora_alpha", "6", "--lora.dropout", "0.1"]
        targets = ["--lora.target_modules", "[q_proj,k_proj,v_proj,o_proj,down_proj]"]
        request = parse([*argv, *rule, *rates, *targets, "--stage", "search"])
        run_stages(request, StopRequest(), draw=False)

    made = made_once(shared_folder / "chat-search", search)
    return RunFolder(made / "runs" / "tiny"), made / "model"
