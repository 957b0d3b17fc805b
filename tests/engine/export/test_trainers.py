"""`run.py --show RUN --for TRAINER`: the lines are pasted, run where the trainer is at hand, and give the ranks."""

import json
import sys
import types
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.requests import Trainer
from autolora.engine import ranks
from autolora.engine.export.trainers import lines_for
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.attach import lora_layers
from tests.helpers.chat_toys import chat_arguments, chat_rows, save_chat_model
from tests.helpers.exports import of_mean_rank, scales_of
from tests.helpers.searched_ranks import LEFT, searched_at
from tests.helpers.shared import made_once


def test_axolotl_and_llama_factory_start_from_an_untrained_adapter(tmp_path: Path) -> None:
    """Older versions of Axolotl ignore a key for ranks, and would train every layer at the largest one."""
    folder = searched_at(tmp_path)
    untrained = str(folder.root / "adapter_untrained")
    assert yaml.safe_load(lines_for("axolotl", folder)) == {
        "adapter": "lora", "lora_r": 8, "lora_alpha": 19, "lora_target_modules": sorted(LEFT),
        "lora_model_dir": untrained,
    }  # fmt: skip
    assert yaml.safe_load(lines_for("llama-factory", folder)) == {
        "finetuning_type": "lora", "adapter_name_or_path": untrained, "create_new_adapter": False,
    }  # fmt: skip


@pytest.mark.parametrize("trainer", ["axolotl", "llama-factory"])
def test_the_untrained_adapter_is_written_by_the_line_that_is_printed(tmp_path: Path, trainer: Trainer) -> None:
    folder = searched_at(tmp_path, {"first": 2, "second": 1})
    (line,) = (line for line in lines_for(trainer, folder).splitlines() if line.startswith("#   get_peft_model("))
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(4, 4), "second": torch.nn.Linear(4, 4)})
    model.prepare_inputs_for_generation = None  # PEFT asks a causal model for it
    exec(line[4:], {"model": model, "LoraConfig": LoraConfig, "get_peft_model": get_peft_model})
    made = LoraConfig.from_pretrained(str(folder.root / "adapter_untrained"))
    assert made.rank_pattern == {"first": 2, "second": 1}


def test_unsloth_gets_the_patterns_as_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert config.alpha_pattern == pytest.approx({name: 16 * rank / (8 * 5.5) ** 0.5 for name, rank in LEFT.items()})


@pytest.mark.parametrize("trainer", get_args(Trainer))
def test_all_of_it_can_be_pasted_and_says_what_is_lost(tmp_path: Path, trainer: Trainer) -> None:
    kept = {"h.0.attn.c_attn.q": 3, "h.0.attn.c_attn.v": 2}
    text = lines_for(trainer, searched_at(tmp_path, kept, name=str(tmp_path)))
    assert "Not exact" in text
    assert "no name on the hub" in text
    if trainer in ("axolotl", "llama-factory"):
        yaml.safe_load(text)
    else:
        compile(text, "lines", "exec")


def test_a_folder_without_ranks_or_with_edited_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--for: .*lora_config/adapter_config\.json does not exist"):
        lines_for("peft", RunFolder(tmp_path / "none"))
    folder = searched_at(tmp_path / "b")
    raw = json.loads(folder.ranks.read_text())
    raw["layers"][0]["rank"] = 4
    folder.ranks.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=r"^--for: .*ranks\.json was edited since"):
        lines_for("peft", folder)


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


@pytest.mark.slow
def test_trl_trains_at_the_recorded_ranks(chat_search: tuple[RunFolder, Path], tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    folder, base = chat_search
    args = trl.SFTConfig(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=2, learning_rate=1e-2, warmup_steps=0,
        report_to=[], save_strategy="no", use_cpu=True, bf16=False, lr_scheduler_type="constant", max_length=64,
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    names: dict[str, Any] = {"model": model, "args": args, "train_dataset": Dataset.from_list(chat_rows())}
    exec(lines_for("trl", folder), names)
    names["trainer"].train()
    layers = lora_layers(names["trainer"].model)
    record = ranks.load(folder.ranks)
    assert {name: layer.r["default"] for name, layer in layers.items()} == record.kept
    assert scales_of(names["trainer"].model) == of_mean_rank(record.kept, 6, 4)
    assert all(bool(layer.lora_B["default"].weight.any()) for layer in layers.values()), "all of them were trained"
