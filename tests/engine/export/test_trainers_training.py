"""Lines of `--for` that are run: what PEFT and TRL train by them has the recorded ranks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from autolora.configs.requests import ShowRequest
from autolora.engine import ranks
from autolora.engine.command import run_request
from autolora.engine.export.trainers import lines_for
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.problems.models.attach import lora_layers
from tests.helpers.chat_toys import chat_rows
from tests.helpers.exports import of_mean_rank, scales_of


@pytest.mark.trains
def test_the_lines_for_peft_give_the_recorded_ranks(
    finished_run: Callable[..., RunFolder], model_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_run("bert")
    capsys.readouterr()  # lines of the run's log, if it was made just now
    run_request(ShowRequest(str(folder.root), "peft"), StopRequest())
    names = {"model": AutoModelForSequenceClassification.from_pretrained(model_folder("bert"), num_labels=2)}
    exec(capsys.readouterr().out, names)
    found: Any = names["model"]
    assert {n: layer.r["default"] for n, layer in lora_layers(found).items()} == ranks.load(folder.ranks).kept


@pytest.mark.slow
def test_trl_trains_at_the_recorded_ranks(chat_search: tuple[RunFolder, Path], tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

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
