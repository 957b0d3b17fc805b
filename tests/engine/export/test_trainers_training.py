"""Lines of `--for` that are run: what PEFT and TRL train by them has the recorded ranks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from autolora.configs.requests import ShowRequest
from autolora.engine import ranks
from autolora.engine.command import run_request
from autolora.engine.export.trainers import lines_for
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.problems.models.attach import lora_layers
from tests.helpers.chat_toys import chat_rows
from tests.helpers.exports import of_mean_rank, scales_of
from tests.helpers.generation_toys import make_causal, make_tokenizer
from tests.helpers.gguf_toys import write_gguf
from tests.helpers.searched_ranks import LEFT, searched_at


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
def test_trl_trains_a_gguf_file_of_a_package_by_lines_that_load_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers calls such a model quantised even where its weights are plain numbers, and does not train it."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    package, tokenizer = tmp_path / "tiny_gguf_package", make_tokenizer("<s>")
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('looked for, not imported')")
    write_gguf(package / "tiny.gguf", make_causal("llama", len(tokenizer)), tokenizer)
    monkeypatch.syspath_prepend(tmp_path)
    folder = searched_at(tmp_path / "run", name="package:tiny_gguf_package/tiny.gguf")
    args = trl.SFTConfig(
        output_dir=str(tmp_path / "out"), max_steps=2, per_device_train_batch_size=2, learning_rate=1e-2,
        report_to=[], save_strategy="no", use_cpu=True, bf16=False, max_length=64,
    )  # fmt: skip
    rows = Dataset.from_dict({"text": ["name The Mill", "area riverside", "a pub", "in the city centre"]})
    names: dict[str, Any] = {"args": args, "train_dataset": rows}
    exec(lines_for("trl", folder), names)
    names["trainer"].train()
    layers = lora_layers(names["trainer"].model)
    assert {name: layer.r["default"] for name, layer in layers.items()} == LEFT
    assert all(bool(layer.lora_B["default"].weight.any()) for layer in layers.values())


@pytest.mark.slow
@pytest.mark.parametrize("source", ["lora_config", "adapter_untrained"])
def test_trl_trains_at_the_recorded_ranks_from_both(
    chat_search: tuple[RunFolder, Path], tmp_path: Path, source: str
) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    folder, base = chat_search
    tokenizer, rows = AutoTokenizer.from_pretrained(base), Dataset.from_list(chat_rows())
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    args = trl.SFTConfig(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=2, learning_rate=1e-2, warmup_steps=0,
        report_to=[], save_strategy="no", use_cpu=True, bf16=False, lr_scheduler_type="constant", max_length=64,
    )  # fmt: skip
    if source == "lora_config":
        names: dict[str, Any] = {"model": model, "args": args, "train_dataset": rows}
        exec(lines_for("trl", folder), names)
        trainer = names["trainer"]
    else:
        model = PeftModel.from_pretrained(model, folder.untrained, is_trainable=True)
        trainer = trl.SFTTrainer(model=model, train_dataset=rows, args=args, processing_class=tokenizer)
    trainer.train()
    layers = lora_layers(trainer.model)
    record = ranks.load(folder.ranks)
    assert {name: layer.r["default"] for name, layer in layers.items()} == record.kept
    assert scales_of(trainer.model) == of_mean_rank(record.kept, 6, 4)
    assert all(bool(layer.lora_B["default"].weight.any()) for layer in layers.values()), "all of them were trained"
