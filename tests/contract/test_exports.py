"""Results in other hands: adapter, padded, merged and LoraConfig load without this program and give
its numbers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from trl import SFTConfig

from tests.contract.conftest import Finished, Models, Tiny
from tests.contract.inputs import EXPORTED, conversations
from tests.contract.program import refused, succeed
from tests.contract.readers import (
    adapter_weights,
    base_of,
    batch_of,
    kept_ranks,
    loaded,
    logits_of,
    predicted_by,
    ranks_in,
    ranks_of,
    read,
)
from tests.helpers.shell import words


@pytest.fixture(params=EXPORTED)
def exported(request: pytest.FixtureRequest, finished: Finished) -> Path:
    """The folder of a run with all forms of its result; do not write."""
    kind, more = EXPORTED[request.param]
    return finished(*more, kind=kind)


def test_plain_peft_predicts_what_the_run_predicted(exported: Path) -> None:
    assert predicted_by(loaded(exported / "adapter"), exported)


def test_the_padded_form_has_one_rank_and_the_same_function(exported: Path) -> None:
    padded = exported / "adapter_padded"
    batch = batch_of(exported / "adapter", "the film is dull .", "our room .")
    config = read(padded / "adapter_config.json")
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    assert set(ranks_in(adapter_weights(padded)).values()) == {config["r"]}
    found = logits_of(loaded(padded), batch)
    expected = logits_of(loaded(exported / "adapter"), batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_merged_form_loads_without_peft_and_has_the_same_function(exported: Path) -> None:
    model, report = AutoModelForSequenceClassification.from_pretrained(
        exported / "merged", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert predicted_by(model, exported)


def test_query_and_value_of_gpt2_have_ranks_of_their_own(
    finished: Finished, model_folder: Models
) -> None:
    kind, more = EXPORTED["gpt2, two parts of c_attn"]
    folder = finished(*more, kind=kind)
    merged = load_file(folder / "merged" / "model.safetensors")
    before = load_file(model_folder("gpt2") / "model.safetensors")
    record = ranks_of(folder)
    assert (
        len({tuple(layer["alpha"]) for layer in read(folder / "ranks.json")["layers"]})
        == len(record)
        == 4
    )
    for layer in ("transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"):
        change = merged[f"{layer}.weight"] - before[f"{layer.removeprefix('transformer.')}.weight"]
        ranks = [np.linalg.matrix_rank(part.numpy(), tol=1e-6) for part in change.chunk(3, dim=1)]
        assert ranks == [record[f"{layer}.q"], 0, record[f"{layer}.v"]]


def test_a_language_models_adapter_padded_and_merged_are_one_function(finished_chat: Path) -> None:
    batch = batch_of(finished_chat / "adapter", "The Mill is a pub in the city centre.")
    base = AutoModelForCausalLM.from_pretrained(base_of(finished_chat / "adapter"))
    plain = logits_of(base, batch)
    model = PeftModel.from_pretrained(base, finished_chat / "adapter")
    expected = logits_of(model, batch)
    assert not torch.allclose(plain, expected, atol=1e-4)
    merged = AutoModelForCausalLM.from_pretrained(finished_chat / "merged")
    for other in (merged, loaded(finished_chat / "adapter_padded")):
        torch.testing.assert_close(logits_of(other, batch), expected, rtol=1e-4, atol=1e-4)


def test_lora_config_trains_elsewhere_at_the_recorded_ranks(
    finished: Finished, model_folder: Models
) -> None:
    folder = finished()
    text = (folder / "lora_config" / "adapter_config.json").read_text()
    assert str(folder.parents[2]) not in text, "no path of this machine"
    assert not list((folder / "lora_config").glob("*.safetensors")), "no weights"
    base = AutoModelForSequenceClassification.from_pretrained(model_folder("bert"), num_labels=2)
    model: Any = get_peft_model(base, LoraConfig.from_pretrained(folder / "lora_config"))
    assert ranks_in(model.state_dict()) == kept_ranks(folder)
    model(
        **batch_of(folder / "adapter", "the film is dull ."), labels=torch.tensor([0])
    ).loss.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if ".lora_B." in name)


def test_the_lines_for_peft_and_trl_train_at_the_recorded_ranks(
    finished_chat: Path, tmp_path: Path
) -> None:
    args = SFTConfig(
        str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        warmup_steps=0,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        max_length=64,
    )
    rows = Dataset.from_list(conversations())
    for trainer in ("peft", "trl"):
        model: Any = AutoModelForCausalLM.from_pretrained(base_of(finished_chat / "adapter"))
        names: dict[str, Any] = {"model": model, "args": args, "train_dataset": rows}
        exec(succeed("--show", finished_chat, "--for", trainer), names)
        if trainer == "trl":
            names["trainer"].train()
            names["model"] = names["trainer"].model
            trained = [p for name, p in names["model"].named_parameters() if ".lora_B." in name]
            assert all(bool(p.any()) for p in trained), "all of them were trained"
        assert ranks_in(names["model"].state_dict()) == kept_ranks(finished_chat)
    refused("--show", finished_chat.parent, "--for", "trl")


def test_a_new_pooler_lies_in_the_adapter(
    tiny: Tiny, model_folder: Models, tmp_path: Path, folder: Path
) -> None:
    base = shutil.copytree(model_folder("bert"), tmp_path / "base")
    weights = {
        name: v for name, v in load_file(base / "model.safetensors").items() if "pooler" not in name
    }
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    succeed(*tiny("--method", "lora", "--model.name", str(base)))
    assert any("pooler" in name for name in adapter_weights(folder / "adapter"))
    torch.manual_seed(12345)
    assert predicted_by(loaded(folder / "adapter"), folder)


def test_bf16_weights_and_gradient_checkpointing_give_an_adapter_in_fp32(
    tiny: Tiny, folder: Path
) -> None:
    more = words(
        "--model.dtype bf16 --model.gradient_checkpointing true --retrain.gradient_accumulation 2"
    )
    succeed(
        *tiny(*more, "--search.gradient_accumulation", "2", "--hypergradient.type", "first_order")
    )
    assert {value.dtype for value in adapter_weights(folder / "adapter").values()} == {
        torch.float32
    }
    assert np.isfinite(pd.read_parquet(folder / "search" / "trajectory.parquet")["alpha"]).all()
    assert np.isfinite(read(folder / "metrics.json")["loss"])
