"""`run.py --show RUN --for TRAINER`: the lines are pasted, run where the trainer is at hand, and
give the ranks."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, TaskType, get_peft_model

from autolora.configs.errors import UserError
from autolora.configs.files import of_folder
from autolora.configs.schema import Autolora
from autolora.configs.training import LoraSettings, ModelConfig
from autolora.engine import ranks
from autolora.engine.choose import Ranks
from autolora.engine.disk.files import write_text
from autolora.engine.export.lora_config import adapter_config, config_for_trainers
from autolora.engine.export.trainers import lines_for
from autolora.engine.store.folder import RunFolder

KEPT = {
    "model.layers.0.self_attn.q_proj": 3,
    "model.layers.0.self_attn.v_proj": 8,
    "model.layers.1.self_attn.q_proj": 0,
}
LEFT = {name: rank for name, rank in KEPT.items() if rank}


def searched_at(root: Path, kept: dict[str, int] = KEPT) -> RunFolder:
    """What a search leaves for trainers, at these ranks of k = 8."""
    folder = RunFolder(root)
    model = ModelConfig(name="org/base", revision="v1")
    lora = LoraSettings(lora_alpha=16)
    config = Autolora(name=root.name, runs_folder=str(root.parent), lora=lora, model=model)
    record = ranks.RankRecord(
        8, tuple(ranks.LayerRank(name, rank, (0.125,) * 8) for name, rank in kept.items())
    )
    record = ranks.with_scale(record, lora, config.retrain.scale, model)
    settings = adapter_config(record, lora, TaskType.CAUSAL_LM, [])
    Ranks(record, config_for_trainers(settings, record, model)).save(root)
    write_text(folder.config, of_folder(config))
    return folder


def test_axolotl_and_llama_factory_start_from_an_untrained_adapter(tmp_path: Path) -> None:
    """Older versions of Axolotl ignore a key for ranks, and would train every layer at the largest
    one."""
    folder = searched_at(tmp_path)
    untrained = str(folder.root / "adapter_untrained")
    assert yaml.safe_load(lines_for("axolotl", folder)) == {
        "adapter": "lora",
        "lora_r": 8,
        "lora_alpha": 19,
        "lora_target_modules": sorted(LEFT),
        "lora_model_dir": untrained,
    }
    assert yaml.safe_load(lines_for("llama-factory", folder)) == {
        "finetuning_type": "lora",
        "adapter_name_or_path": untrained,
        "create_new_adapter": False,
    }


def test_the_untrained_adapter_is_written_by_the_line_that_is_printed(tmp_path: Path) -> None:
    folder = searched_at(tmp_path, {"first": 2, "second": 1})
    (line,) = (
        line
        for line in lines_for("axolotl", folder).splitlines()
        if line.startswith("#   get_peft_model(")
    )
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(4, 4), "second": torch.nn.Linear(4, 4)})
    model.prepare_inputs_for_generation = None  # PEFT asks a causal model for it
    exec(line[4:], {"model": model, "LoraConfig": LoraConfig, "get_peft_model": get_peft_model})
    made = LoraConfig.from_pretrained(str(folder.root / "adapter_untrained"))
    assert made.rank_pattern == {"first": 2, "second": 1}


def test_unsloth_gets_the_patterns_as_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arguments go to LoraConfig; here they are taken straight to it."""
    given: list[LoraConfig] = []

    class FastLanguageModel:
        @staticmethod
        def get_peft_model(model: Any, **arguments: Any) -> Any:
            given.append(LoraConfig(**arguments))
            return model

    stand_in: Any = types.ModuleType("unsloth")
    stand_in.FastLanguageModel = FastLanguageModel
    monkeypatch.setitem(sys.modules, "unsloth", stand_in)
    exec(lines_for("unsloth", searched_at(tmp_path)), {"model": torch.nn.Linear(1, 1)})
    (config,) = given
    assert (config.rank_pattern, set(config.target_modules or ())) == (LEFT, set(LEFT))
    assert config.alpha_pattern == pytest.approx(
        {name: 16 * rank / (8 * 5.5) ** 0.5 for name, rank in LEFT.items()}
    )


def test_parts_of_a_fused_layer_that_share_a_rank_are_told(tmp_path: Path) -> None:
    text = lines_for(
        "peft", searched_at(tmp_path, {"h.0.attn.c_attn.q": 3, "h.0.attn.c_attn.v": 2})
    )
    assert "Not exact: the parts of c_attn share one LoRA" in text


def test_edited_ranks_are_refused(tmp_path: Path) -> None:
    folder = searched_at(tmp_path / "b")
    raw = json.loads(folder.ranks.read_text())
    raw["layers"][0]["rank"] = 4
    folder.ranks.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=r"^--for: .*ranks\.json was edited since"):
        lines_for("peft", folder)
