"""`learn_ranks_from_trainer` with TRL's SFTTrainer: the lines of the documentation, its loss, its adapter."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from autolora.engine.api import SearchConfig, UserError, learn_ranks, learn_ranks_from_trainer
from autolora.problems.models.attach import lora_layers
from tests.helpers.api import SHORT
from tests.helpers.chat_toys import chat_rows, save_chat_model
from tests.helpers.places import ROOT
from tests.helpers.untouched import seen

pytestmark = pytest.mark.trains

LLAMA = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])


def sft_arguments(folder: Path, **changes: Any) -> Any:
    trl = pytest.importorskip("trl")
    plain = {"output_dir": str(folder / "out"), "report_to": [], "use_cpu": True, "bf16": False, "max_length": 64,
             "per_device_train_batch_size": 4, "learning_rate": 1e-2, "max_steps": 2,
             "save_strategy": "no"}  # fmt: skip
    return trl.SFTConfig(**{**plain, **changes})


@pytest.mark.slow
def test_trl_trains_at_the_ranks_by_the_lines_of_the_documentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trl = pytest.importorskip("trl")
    monkeypatch.setattr(
        "autolora.engine.api.trainer.SearchConfig", lambda **given: SearchConfig(**{**vars(SHORT), **given})
    )
    base = save_chat_model(tmp_path / "model")
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lines = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.S)[0]
    names: dict[str, Any] = {
        "model": model, "args": sft_arguments(tmp_path), "rows": Dataset.from_list(chat_rows()),
        "SFTTrainer": trl.SFTTrainer, "LoraConfig": LoraConfig,
    }  # fmt: skip
    exec(lines.replace("LoraConfig(r=8,", "LoraConfig(r=4,"), names)
    trainer, learned = names["trainer"], names["learned"]
    assert learned.shares is not None
    base_after = trainer.model.get_base_model().state_dict()
    for name, value in before.items():
        found = base_after.get(name, base_after.get(f"{name.rpartition('.')[0]}.base_layer.{name.rpartition('.')[2]}"))
        assert found is not None
        assert torch.equal(found, value)
    trainer.train()
    kept = {name: rank for name, rank in learned.ranks.items() if rank}
    assert {name: layer.r["default"] for name, layer in lora_layers(trainer.model).items()} == kept


@pytest.mark.slow
@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_trl_trainer_with_an_adapter_is_left_as_it_was(tmp_path: Path, error: type[BaseException] | None) -> None:
    """It will checkpoint its blocks (the default), its forward is patched, its loss counts tokens."""
    trl = pytest.importorskip("trl")
    base = save_chat_model(tmp_path / "model")
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base), args=sft_arguments(tmp_path),
        train_dataset=Dataset.from_list(chat_rows()), peft_config=deepcopy(LLAMA),
    )  # fmt: skip
    counted = deepcopy((trainer._metrics, trainer._total_train_tokens))
    before = seen(trainer.model)
    if error is None:
        learned = learn_ranks_from_trainer(trainer, search=SHORT)
        assert learned.shares is not None
        assert set(learned.ranks) == set(lora_layers(trainer.model))
    else:
        loss = trainer.compute_loss
        calls = iter(range(5))

        def broken(*given: Any, **options: Any) -> Any:
            if next(calls, None) is None:
                raise error
            return loss(*given, **options)

        trainer.compute_loss = broken
        with pytest.raises(error):
            learn_ranks_from_trainer(trainer, search=SHORT)
    assert seen(trainer.model) == before
    assert (trainer._metrics, trainer._total_train_tokens) == counted
    trainer.compute_loss = type(trainer).compute_loss.__get__(trainer)
    trainer.train()


@pytest.mark.slow
def test_lora_on_the_output_layer_is_refused_with_trl(tmp_path: Path) -> None:
    """TRL's loss reads that layer's weight and passes by its LoRA, whose share would be 0."""
    trl = pytest.importorskip("trl")
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(save_chat_model(tmp_path / "model")),
        args=sft_arguments(tmp_path), train_dataset=Dataset.from_list(chat_rows()),
    )  # fmt: skip
    for targets in (["q_proj", "lm_head"], r".*(q_proj|lm_head)"):
        with pytest.raises(UserError, match=r"^lora_config: target_modules: 'lm_head' is not allowed with TRL's"):
            learn_ranks_from_trainer(trainer, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets))
    with pytest.raises(UserError, match=r"^lora_config: target_modules='q_proj\|\*\(' is no regular expression"):
        learn_ranks_from_trainer(trainer, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="q_proj|*("))


@pytest.mark.slow
def test_the_loss_of_trl_gives_the_search_of_the_models_own(tmp_path: Path) -> None:
    """TRL's loss is the mean over the labels, by another way than the model's."""
    trl = pytest.importorskip("trl")
    base = save_chat_model(tmp_path / "model")
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base), args=sft_arguments(tmp_path, gradient_checkpointing=False),
        train_dataset=Dataset.from_list(chat_rows()),
    )  # fmt: skip
    theirs = learn_ranks_from_trainer(trainer, LLAMA, search=SHORT)
    rows = trainer.get_train_dataloader().dataset
    own = learn_ranks(
        AutoModelForCausalLM.from_pretrained(base), rows, LLAMA, collate=trainer.data_collator, search=SHORT,
        seed=trainer.args.seed, precision="fp32",
    )  # fmt: skip
    for one, other in zip(theirs.record.layers, own.record.layers, strict=True):
        assert other.alpha == pytest.approx(one.alpha, abs=1e-3)
    assert theirs.record.evidence is not None
    assert own.record.evidence is not None
    assert theirs.record.evidence.loss == pytest.approx(own.record.evidence.loss, abs=1e-3)
