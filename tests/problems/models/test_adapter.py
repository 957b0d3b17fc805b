"""What the folder of an adapter tells before anything is loaded."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from autolora.configs.errors import UserError
from autolora.problems.models.adapter import AdapterFolder, class_names


def test_classes_are_in_the_order_of_their_numbers_if_anybody_named_them() -> None:
    names = {str(number): f"class {number}" for number in (0, 10, 2, 1, *range(3, 10))}
    assert class_names({"id2label": names}) == tuple(f"class {number}" for number in range(11))
    assert class_names({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}) == ()
    assert class_names({}) == ()


def test_a_head_gives_as_many_numbers_as_its_smallest_matrix_has_rows(tmp_path: Path) -> None:
    config = {"base_model_name_or_path": "base", "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    place = "base_model.model.classifier"
    weights = {
        "base_model.model.bert.q.lora_A.weight": torch.zeros(2, 8),
        "base_model.model.bert.pooler.dense.weight": torch.zeros(3, 8),
        f"{place}.dense.weight": torch.zeros(8, 8),
        f"{place}.dense.bias": torch.zeros(8),
        f"{place}.out_proj.weight": torch.zeros(5, 8),
        f"{place}.out_proj.bias": torch.zeros(5),
    }
    save_file(weights, tmp_path / "adapter_model.safetensors")
    folder = AdapterFolder.of(str(tmp_path))
    assert (folder.outputs, folder.base, folder.classes) == (5, "base", ())
    (tmp_path / "config.json").write_text(json.dumps({"gguf_file": "m.gguf"}))
    assert AdapterFolder.of(str(tmp_path)).base == "base/m.gguf"
    with pytest.raises(UserError, match="adapter_config"):
        AdapterFolder.of(str(tmp_path.parent))
