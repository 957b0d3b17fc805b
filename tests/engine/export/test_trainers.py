"""`run.py --show RUN --for TRAINER`: the lines are pasted, run where the trainer is at hand, and give the ranks."""

import json
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
from peft import LoraConfig, TaskType

from autolora.configs.errors import UserError
from autolora.configs.files import load_config, to_yaml
from autolora.configs.parser import parse
from autolora.configs.requests import Trainer
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.export.scale import alpha_pattern
from autolora.engine.export.trainers import lines_for
from autolora.engine.run.folder import RunFolder
from tests.helpers.searched_ranks import KEPT, LEFT, searched_at


def test_axolotl_starts_from_the_untrained_adapter(tmp_path: Path) -> None:
    """Its older versions ignore a key for ranks, and would train every layer at the largest one."""
    folder = searched_at(tmp_path)
    text = lines_for("axolotl", folder)
    assert "--stage search --export.untrained true" in text
    assert yaml.safe_load(text) == {
        "base_model": "org/base", "revision_of_model": "v1", "adapter": "lora", "lora_r": 8, "lora_alpha": 19,
        "lora_dropout": 0.0, "lora_target_modules": sorted(LEFT), "lora_model_dir": str(folder.untrained),
    }  # fmt: skip
    untrained_at(folder, LEFT)
    assert "--export.untrained" not in lines_for("axolotl", folder)


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


def test_unsloth_names_modules_that_it_cannot_train_whole(tmp_path: Path) -> None:
    folder = searched_at(tmp_path)
    configured(folder, modules_to_save=["lm_head"])
    assert "refuses" not in lines_for("unsloth", folder)
    configured(folder, modules_to_save=["lm_head", "norm"])
    assert "# Unsloth refuses these modules_to_save: norm." in lines_for("unsloth", folder)


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


def untrained_at(folder: RunFolder, kept: dict[str, int]) -> None:
    settings = json.loads((folder.lora_config / "adapter_config.json").read_text())
    write_json(folder.untrained / "adapter_config.json", settings | {"rank_pattern": kept})
    folder.untrained_card.touch()


def test_an_untrained_adapter_at_other_ranks_is_refused(tmp_path: Path) -> None:
    """The trainer would take its ranks, not those of ranks.json."""
    folder = searched_at(tmp_path)
    untrained_at(folder, LEFT | {"model.layers.0.self_attn.q_proj": 2})
    with pytest.raises(
        UserError, match=r"^--for: .*adapter_untrained does not hold the ranks in .*--stage search --e"
    ):
        lines_for("llama-factory", folder)
    folder.config.unlink()
    with pytest.raises(UserError, match=r"^--for: .*adapter_untrained does not hold the ranks in .*; remove it, and"):
        lines_for("llama-factory", folder)


FUSED = {"h.0.attn.c_attn.q": 4, "h.0.attn.c_attn.k": 0, "h.0.mlp.c_fc": 4}


@pytest.mark.parametrize("place", ["lora_config", "adapter_untrained"])
def test_an_edit_of_parts_that_changes_the_scale_alone_is_refused(place: str, tmp_path: Path) -> None:
    """The fused layer keeps its rank, but more parts keep LoRA, so that the mean rank is lower."""
    folder = searched_at(tmp_path, FUSED)
    untrained_at(folder, {"h.0.attn.c_attn": 4, "h.0.mlp.c_fc": 4})
    assert lines_for("llama-factory", folder)
    raw = json.loads(folder.ranks.read_text())
    for row, rank in zip(raw["layers"], (2, 2, 4), strict=True):
        row["rank"] = rank
    folder.ranks.write_text(json.dumps(raw))
    if place == "adapter_untrained":
        config, record = load_config(folder.config), ranks.load(folder.ranks)
        configured(folder, alpha_pattern=alpha_pattern(config, record))
    with pytest.raises(UserError, match=rf"^--for: .*{place} does not hold the ranks in "):
        lines_for("llama-factory", folder)


def told_command(text: str) -> list[str]:
    """The options of the command that writes the untrained adapter."""
    (line,) = (line for line in text.splitlines() if "--export.untrained" in line)
    return shlex.split(line.removeprefix("#"))[2:]


def test_the_command_for_the_untrained_adapter_is_about_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a run that was moved after its config.yaml had been written."""
    monkeypatch.setattr("autolora.engine.export.trainers.program", lambda: "python run.py")
    folder = searched_at(tmp_path / "runs" / "a")
    asked = parse(told_command(lines_for("llama-factory", folder)))
    assert (RunFolder.of(asked.config).root, asked.stage, asked.config.export.untrained) == (
        folder.root,
        "search",
        True,
    )
    assert "--name" not in told_command(lines_for("llama-factory", folder))
    moved = RunFolder(folder.root.rename(tmp_path / "moved"))
    monkeypatch.chdir(moved.root)
    for root in (moved.root, Path(".")):
        asked = parse(told_command(lines_for("llama-factory", RunFolder(root))))
        assert RunFolder.of(asked.config).root == moved.root


def test_ranks_of_a_script_need_no_run_to_get_the_untrained_adapter(tmp_path: Path) -> None:
    """`LearnedRanks.save` writes no config.yaml that a command could read; the lines do what the command would."""
    folder = searched_at(tmp_path, {"first": 2, "second": 1})
    folder.config.unlink()
    text = lines_for("llama-factory", folder)
    assert "run.py" not in text
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(4, 4), "second": torch.nn.Linear(4, 4)})
    model.prepare_inputs_for_generation = None  # PEFT asks a causal model for it
    exec("\n".join(line[4:] for line in text.splitlines() if line.startswith("#   ")), {"model": model})
    assert LoraConfig.from_pretrained(str(folder.untrained)).rank_pattern == {"first": 2, "second": 1}
    assert "adapter_untrained does not exist" not in lines_for("llama-factory", folder)


def test_llama_factory_goes_on_from_the_untrained_adapter(tmp_path: Path) -> None:
    folder = searched_at(tmp_path)
    assert yaml.safe_load(lines_for("llama-factory", folder)) == {
        "model_name_or_path": "org/base", "model_revision": "v1", "finetuning_type": "lora",
        "adapter_name_or_path": str(folder.untrained), "create_new_adapter": False,
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


def test_a_dropped_layer_is_told(tmp_path: Path) -> None:
    assert "mean 3.67 of k = 8; 1 of 3 layers dropped" in lines_for("peft", searched_at(tmp_path))


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
    named = rf"adapter_config\.json: {key}\b.*; the run's command with --stage search --export\.untrained true writes"
    for trainer in get_args(Trainer):
        with pytest.raises(UserError, match=named):
            lines_for(trainer, folder)


def test_a_half_done_search_is_told_to_be_resumed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a")
    write_text(folder.config, to_yaml(RunConfig(name="a", runs_folder=str(tmp_path))))
    with pytest.raises(UserError, match=r"^--for: .*ranks\.json does not exist yet, ") as refused:
        lines_for("peft", folder)
    assert str(refused.value).endswith("the same command resumes it")


def test_folders_without_the_ranks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^--for: .*ranks\.json does not exist; methods autolora, lora_grid, .* write it"
    ):
        lines_for("peft", RunFolder(tmp_path / "none"))
    folder = searched_at(tmp_path / "b")
    raw = json.loads(folder.ranks.read_text())
    raw["layers"][0]["rank"] = 4
    folder.ranks.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=r"^--for: .*lora_config does not hold the ranks in .*ranks\.json, which were"):
        lines_for("peft", folder)
