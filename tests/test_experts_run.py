"""A whole run on a mixture of experts, whose PEFT configuration is changed while LoRA is attached."""

from collections.abc import Callable

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import read_json
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages


@pytest.mark.trains
def test_a_run_on_experts_writes_its_adapter_and_its_configuration(tiny_config: Callable[..., RunConfig]) -> None:
    """It had ended in a traceback after the training, as a set cannot be written as JSON."""
    config = tiny_config("--lora.modules_to_save", "null", kind="mixtral")
    folder = run_stages(Request(config, "all", False, "quickstart.yaml"), StopRequest(), draw=False)
    assert folder.metrics.exists()
    record = ranks.load(folder.ranks)
    settings = LoraConfig.from_pretrained(folder.lora_config)
    assert settings.target_parameters is None
    model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(config.model.name), settings)
    assert {m.r["default"] for m in model.modules() if hasattr(m, "lora_A")} == set(record.kept.values())
    assert read_json(folder.lora_config / "adapter_config.json")["target_parameters"] is None
