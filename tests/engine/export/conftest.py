"""One export for each family of models, shared by the tests of all its forms."""

from collections.abc import Callable
from pathlib import Path

import pytest

from configs.schema import RunConfig
from tests.helpers.exports import LORA_ALPHA, Exported, make_export


@pytest.fixture(
    scope="session",
    params=[("bert", "component"), ("roberta", "component"), ("gpt2", "fixed"), ("llama", "component")],
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
