"""`run.py --show RUN --for TRAINER`: the lines are pasted, run where the trainer is at hand, and give the ranks."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
from peft import LoraConfig, TaskType, get_peft_model

from autolora.configs.errors import UserError
from autolora.configs.requests import Trainer
from autolora.engine.disk.files import write_json
from autolora.engine.export.trainers import lines_for
from autolora.engine.run.folder import RunFolder
from tests.helpers.searched_ranks import KEPT, LEFT, searched_at


def test_axolotl_starts_from_the_untrained_adapter(tmp_path: Path) -> None:
    """Its older versions ignore a key for ranks, and would train every layer at the largest one."""
    folder = searched_at(tmp_path)
    text = lines_for("axolotl", folder)
    assert yaml.safe_load(text) == {
        "base_model": "org/base", "revision_of_model": "v1", "adapter": "lora", "lora_r": 8, "lora_alpha": 19,
        "lora_dropout": 0.0, "lora_target_modules": sorted(LEFT),
        "lora_model_dir": str(folder.root / "adapter_untrained"),
    }  # fmt: skip


def test_axolotl_is_told_of_modules_trained_whole_and_of_weights_that_lie_the_other_way_round(tmp_path: Path) -> None:
    folder = searched_at(tmp_path)
    configured(folder, modules_to_save=["lm_head"], fan_in_fan_out=True)
    keys = yaml.safe_load(lines_for("axolotl", folder))
    assert (keys["lora_modules_to_save"], keys["lora_fan_in_fan_out"]) == (["lm_head"], True)


def configured(folder: RunFolder, **changes: Any) -> None:
    """Changes the run's lora_config/."""
    place = folder.lora_config / "adapter_config.json"
    write_json(place, json.loads(place.read_text()) | changes)


def test_axolotl_takes_whole_alphas_alone(tmp_path: Path) -> None:
    """Where those of single layers are broken, the adapter's configuration has them."""
    assert type(yaml.safe_load(lines_for("axolotl", searched_at(tmp_path, lora_alpha=4.0)))["lora_alpha"]) is int


@pytest.mark.parametrize("trainer", ["trl", "unsloth"])
def test_lora_on_the_output_layer_is_refused_for_trainers_that_train_none_there(
    tmp_path: Path, trainer: Trainer
) -> None:
    folder = searched_at(tmp_path, {**KEPT, "lm_head": 2})
    why = rf"^--for: '{trainer}' is not allowed for .*, which has LoRA on lm_head: .*; allowed: peft, axolotl, llama-f"
    with pytest.raises(UserError, match=why):
        lines_for(trainer, folder)
    assert lines_for("axolotl", folder)
    assert lines_for(trainer, searched_at(tmp_path / "dropped", {**KEPT, "lm_head": 0}))


def test_unsloth_gets_the_last_words_of_modules_that_it_trains_whole(tmp_path: Path) -> None:
    """A run stores their full names, which Unsloth would refuse."""
    folder = searched_at(tmp_path)
    configured(folder, modules_to_save=["lm_head", "model.embed_tokens"])
    text = lines_for("unsloth", folder)
    assert "refuses" not in text
    assert "    modules_to_save=['lm_head', 'embed_tokens'],\n" in text
    configured(folder, modules_to_save=["model.embed_tokens", "model.norm"])
    text = lines_for("unsloth", folder)
    assert "# Unsloth refuses these modules_to_save: model.norm." in text
    assert "    modules_to_save=['embed_tokens', 'model.norm'],\n" in text


@pytest.mark.parametrize("trainer", ["axolotl", "llama-factory"])
def test_the_untrained_adapter_is_written_by_the_line_that_is_printed(tmp_path: Path, trainer: Trainer) -> None:
    folder = searched_at(tmp_path, {"first": 2, "second": 1})
    lines = lines_for(trainer, folder).splitlines()
    (line,) = (line for line in lines if line.startswith("#   get_peft_model("))
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(4, 4), "second": torch.nn.Linear(4, 4)})
    model.prepare_inputs_for_generation = None  # PEFT asks a causal model for it
    exec(line[4:], {"model": model, "LoraConfig": LoraConfig, "get_peft_model": get_peft_model})
    made = LoraConfig.from_pretrained(str(folder.root / "adapter_untrained"))
    assert made.rank_pattern == {"first": 2, "second": 1}


FUSED = {"h.0.attn.c_attn.q": 4, "h.0.attn.c_attn.k": 0, "h.0.mlp.c_fc": 4}


def test_an_edit_of_parts_that_changes_the_scale_alone_is_refused(tmp_path: Path) -> None:
    """The fused layer keeps its rank, but more parts keep LoRA, so that the mean rank is lower."""
    folder = searched_at(tmp_path, FUSED)
    assert lines_for("llama-factory", folder)
    raw = json.loads(folder.ranks.read_text())
    for row, rank in zip(raw["layers"], (2, 2, 4), strict=True):
        row["rank"] = rank
    folder.ranks.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=r"^--for: .*lora_config does not hold the ranks in "):
        lines_for("llama-factory", folder)


def test_llama_factory_goes_on_from_the_untrained_adapter(tmp_path: Path) -> None:
    folder = searched_at(tmp_path)
    assert yaml.safe_load(lines_for("llama-factory", folder)) == {
        "model_name_or_path": "org/base", "model_revision": "v1", "finetuning_type": "lora",
        "adapter_name_or_path": str(folder.root / "adapter_untrained"), "create_new_adapter": False,
    }  # fmt: skip


@pytest.mark.parametrize("trainer", ["axolotl", "llama-factory"])
def test_one_file_of_a_repository_is_no_base_that_a_trainer_loads_by_name(tmp_path: Path, trainer: Trainer) -> None:
    lines = lines_for(trainer, searched_at(tmp_path, name="org/base/small.Q4_1.gguf"))
    key = "base_model" if trainer == "axolotl" else "model_name_or_path"
    assert f"# {key}: the model that was searched (org/base/small.Q4_1.gguf)" in lines
    assert not {"base_model", "model_name_or_path"} & set(yaml.safe_load(lines))


def test_unsloth_gets_the_patterns_as_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments go to LoraConfig; here they are taken straight to it."""
    import sys
    import types

    given: list[LoraConfig] = []

    class FastLanguageModel:
        @staticmethod
        def get_peft_model(model: Any, **arguments: Any) -> Any:
            given.append(LoraConfig(**arguments))
            return model

    stand_in: Any = types.ModuleType("unsloth")
    stand_in.FastLanguageModel = FastLanguageModel
    monkeypatch.setitem(sys.modules, "unsloth", stand_in)
    from torch import nn

    exec(lines_for("unsloth", searched_at(tmp_path)), {"model": nn.Linear(1, 1)})
    (config,) = given
    assert (config.rank_pattern, set(config.target_modules or ())) == (LEFT, set(LEFT))
    assert config.alpha_pattern == pytest.approx({name: 16 * rank / (8 * 5.5) ** 0.5 for name, rank in LEFT.items()})


@pytest.mark.parametrize("trainer", get_args(Trainer))
def test_all_of_it_can_be_pasted_and_says_what_is_lost(tmp_path: Path, trainer: Trainer) -> None:
    kept = {"h.0.attn.c_attn.q": 3, "h.0.attn.c_attn.v": 2}
    text = lines_for(trainer, searched_at(tmp_path, kept, name=str(tmp_path)))
    assert "other trainers train all of B" in text
    assert "no name on the hub" in text
    if trainer in ("axolotl", "llama-factory"):
        assert "base_model" not in yaml.safe_load(text)
    else:
        compile(text, "lines", "exec")


@pytest.mark.parametrize("trainer", ["trl", "axolotl", "llama-factory", "unsloth"])
def test_a_model_that_is_no_language_model_is_refused(tmp_path: Path, trainer: Trainer) -> None:
    with pytest.raises(UserError, match=rf"^--for: '{trainer}' is not allowed for .*\(SEQ_CLS\); allowed: peft"):
        lines_for(trainer, searched_at(tmp_path, kind=TaskType.SEQ_CLS))


BAD_KEYS = {
    "task_type": KeyError, "r": "8", "lora_alpha": None, "lora_dropout": [], "target_modules": None,
    "modules_to_save": 3, "rank_pattern": [], "alpha_pattern": None, "fan_in_fan_out": "no",
}  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_damaged_configuration_is_named_with_its_key(tmp_path: Path, key: str) -> None:
    folder = searched_at(tmp_path)
    path = folder.lora_config / "adapter_config.json"
    raw = json.loads(path.read_text()) | {key: BAD_KEYS[key]}
    path.write_text(json.dumps({name: value for name, value in raw.items() if value is not KeyError}))
    named = rf"adapter_config\.json: {key}\b.*; the run's command with --stage retrain writes"
    for trainer in get_args(Trainer):
        with pytest.raises(UserError, match=named):
            lines_for(trainer, folder)


def test_folders_without_the_ranks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--for: .*ranks\.json does not exist; methods autolora, lora_grid and "):
        lines_for("peft", RunFolder(tmp_path / "none"))
    folder = searched_at(tmp_path / "b")
    raw = json.loads(folder.ranks.read_text())
    raw["layers"][0]["rank"] = 4
    folder.ranks.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=r"^--for: .*lora_config does not hold the ranks in .*ranks\.json, which were"):
        lines_for("peft", folder)
