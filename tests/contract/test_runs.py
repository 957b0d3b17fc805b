"""A run: all stages by one command or each alone, its folder's files, and the same command again."""

import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

from tests.contract.conftest import Finished, Tiny
from tests.contract.inputs import conversations, language_arguments, lines, numbers, options, own_table, tagged
from tests.contract.program import command, succeed
from tests.contract.readers import (
    adapter_weights,
    batch_of,
    everything,
    loaded,
    logits_of,
    outcome,
    ranks_in,
    ranks_of,
    read,
)
from tests.helpers.generation_toys import e2e_rows, write_e2e

pytestmark = pytest.mark.trains

FILES = (
    "config.yaml", "search/trajectory.parquet", "search/metrics.jsonl", "ranks.json", "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors", "adapter/README.md", "lora_config/adapter_config.json", "metrics.json",
    "predictions.csv", "report.html", "log.txt",
)  # fmt: skip
NUMBERS = ("step", "train_loss", "val_loss", "implicit_to_direct", "cosine", "seconds")
RESULT = (
    "method", "task", "metrics", "loss", "lora_parameters", "trainable_parameters", "seed", "seconds", "steps",
    "peak_memory_mib", "versions",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_one_command_leaves_the_files_that_are_promised(finished: Finished, kind: str) -> None:
    folder = finished(kind=kind)
    for name in FILES:
        assert (folder / name).stat().st_size > 0, name
    assert list(folder.glob("figures/*.png"))
    trajectory = pd.read_parquet(folder / "search" / "trajectory.parquet")
    assert {"step", "layer", "component", "alpha", "contribution"} <= set(trajectory.columns)
    assert sorted(trajectory["step"].unique()) == [0, 2, 4, 6]
    logged = read(folder / "search" / "metrics.jsonl")
    assert [line["step"] for line in logged] == [2, 4, 6]
    assert all(set(NUMBERS) <= set(line) for line in logged)
    result = read(folder / "metrics.json")
    assert set(RESULT) <= set(result)
    assert result["steps"] == {"search": 6, "retrain": 4}
    weights = adapter_weights(folder / "adapter")
    assert ranks_in(weights) == {name: rank for name, rank in ranks_of(folder).items() if rank}
    assert result["lora_parameters"] == sum(value.numel() for name, value in weights.items() if ".lora_" in name)
    assert result["trainable_parameters"] == sum(value.numel() for value in weights.values())


def test_the_result_is_that_of_the_adapter_in_plain_peft(finished: Finished) -> None:
    folder = finished()
    result, rows = read(folder / "metrics.json"), pd.read_csv(folder / "predictions.csv")
    model = loaded(folder / "adapter")
    logits = logits_of(model, batch_of(folder / "adapter", *rows["sentence"]))
    names = [model.config.id2label[int(number)] for number in logits.argmax(-1)]
    assert names == list(rows["predicted"])
    assert result["metrics"]["accuracy"] == (rows["predicted"] == rows["label"]).mean()
    labels = torch.tensor([model.config.label2id[name] for name in rows["label"]])
    loss = float(torch.nn.functional.cross_entropy(logits, labels))
    assert result["loss"] == pytest.approx(loss, rel=1e-5)


def test_the_page_may_load_nothing_from_elsewhere(finished: Finished) -> None:
    assert "default-src 'none'" in html.unescape((finished() / "report.html").read_text(encoding="utf-8"))


def test_the_search_alone_stops_at_ranks_and_all_goes_on_from_there(tiny: Tiny, folder: Path) -> None:
    succeed(*tiny("--stage", "search"))
    assert (folder / "ranks.json").exists()
    assert (folder / "lora_config" / "adapter_config.json").exists()
    assert not (folder / "metrics.json").exists()
    assert not (folder / "adapter").exists()
    names = ("ranks.json", "search/metrics.jsonl", "search/trajectory.parquet")
    searched = {name: (folder / name).read_bytes() for name in names}
    succeed(*tiny())
    assert (folder / "metrics.json").exists()
    assert {name: (folder / name).read_bytes() for name in names} == searched, "the search is not made again"


def test_the_retraining_alone_obeys_a_ranks_json_written_by_hand(tiny: Tiny, folder: Path) -> None:
    """A name and a rank for each layer are enough: rank 0, more than k, and a layer that no search would name."""
    wanted = {
        "bert.encoder.layer.0.attention.self.query": 0, "bert.encoder.layer.0.attention.self.value": 1,
        "bert.encoder.layer.1.output.dense": 7,
    }  # fmt: skip
    folder.mkdir(parents=True)
    layers = [{"name": name, "rank": rank} for name, rank in wanted.items()]
    (folder / "ranks.json").write_text(json.dumps({"layers": layers}))
    succeed(*tiny("--stage", "retrain"))
    assert ranks_in(adapter_weights(folder / "adapter")) == {name: rank for name, rank in wanted.items() if rank}
    result = read(folder / "metrics.json")
    assert result["mean_rank"] == pytest.approx(8 / 3)
    assert result["steps"]["retrain"] == 4


def test_the_report_alone_draws_the_page_again_and_touches_no_result(
    tiny: Tiny, finished: Finished, folder: Path
) -> None:
    shutil.copytree(finished(), folder)
    (folder / "report.html").unlink()
    names = ("metrics.json", "ranks.json", "config.yaml", "adapter/adapter_model.safetensors")
    before = [(folder / name).read_bytes() for name in names]
    succeed(*tiny("--stage", "report"))
    assert (folder / "report.html").exists()
    assert [(folder / name).read_bytes() for name in names] == before


def test_the_config_of_the_folder_repeats_the_run(finished: Finished, tmp_path: Path) -> None:
    first = finished()
    succeed("--config", first / "config.yaml", "--runs_folder", tmp_path)
    one, other = outcome(first), outcome(tmp_path / "tiny")
    for key in ("ranks", "trajectory", "adapter", "adapter_config"):
        assert other[key] == one[key], key
    assert other["metrics"]["metrics"] == one["metrics"]["metrics"]


def test_the_same_command_on_a_finished_run_trains_nothing_and_changes_nothing(
    tiny: Tiny, finished: Finished, folder: Path
) -> None:
    shutil.copytree(finished(), folder)
    before = everything(folder)
    command(*tiny("--answer.rows", "1000"))
    assert everything(folder) == before
    shown = succeed("--show", folder)
    assert "accuracy" in shown
    assert everything(folder) == before


def test_show_of_a_half_done_run_and_of_no_run(tiny: Tiny, tmp_path: Path, folder: Path) -> None:
    succeed(*tiny("--stage", "search", "--search.steps", "2"))
    assert succeed("--show", folder)
    answer = command("--show", tmp_path)
    assert answer.code == 2
    assert str(tmp_path) in answer.line


def test_the_order_of_words_means_nothing_and_the_command_line_wins(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("seed: 3\nsearch: {steps: 5}\n")
    file = ["--config", str(tmp_path / "own.yaml")]
    words = ["--search.steps", "7", "--print_config"]
    one, other = succeed(*file, *words), succeed(*words, *file)
    assert one == other
    assert "seed: 3" in one
    assert "steps: 7" in one


def test_help_lists_every_key_and_a_bare_name_is_looked_up_in_configs(finished: Finished) -> None:
    shown = succeed("--help")
    settings = read(finished() / "config.yaml")
    keys = [key for key, value in settings.items() if not isinstance(value, dict)]
    keys += [f"{section}.{key}" for section, value in settings.items() if isinstance(value, dict) for key in value]
    assert len(keys) > 50
    assert [key for key in keys if f"--{key}" not in shown] == []
    assert "steps: 160" in succeed("--config", "quickstart.yaml", "--print_config")


def test_a_table_of_numbers(tiny: Tiny, tmp_path: Path, folder: Path) -> None:
    """The adapter predicts in the file's own units."""
    given = options(task__type="text", task__kind="regression", task__path=numbers(tmp_path / "d.csv"))
    succeed(*tiny(*given, "--task.train_rows", "null", "--answer.rows", "8", "--answer.rule", "shares"))
    assert {"pearson", "spearman"} <= set(read(folder / "metrics.json")["metrics"])
    rows = pd.read_csv(folder / "predictions.csv")
    found = logits_of(loaded(folder / "adapter"), batch_of(folder / "adapter", *rows["text"]))
    assert found.flatten().tolist() == pytest.approx(list(rows["predicted"]), rel=1e-4)
    assert 40 < found.mean() < 60


def test_two_texts_and_their_columns(tiny: Tiny, tmp_path: Path, folder: Path) -> None:
    rows = [{"one": f"the film was {x}", "two": f"our room was {y}", "same": "yes" if x == y else "no"}
            for x in ("dull", "clean", "noisy") for y in ("dull", "clean", "noisy") for _ in range(3)]  # fmt: skip
    given = options(task__type="text", task__path=lines(tmp_path / "pairs.jsonl", rows), task__label_column="same")
    succeed(*tiny(*given, "--task.text_columns", "[one,two]", "--task.train_rows", "null"))
    model = loaded(folder / "adapter")
    assert set(model.config.label2id) == {"yes", "no"}
    tokenizer = AutoTokenizer.from_pretrained(folder / "adapter")
    pair = tokenizer("the film was dull", "our room was dull", return_tensors="pt")
    assert logits_of(model, dict(pair)).shape == (1, 2)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_tagged_words(tiny: Tiny, tmp_path: Path, folder: Path, kind: str) -> None:
    succeed(*tiny(*tagged(tmp_path), "--answer.rows", "8", "--task.evaluation_rows", "null", kind=kind))
    result = read(folder / "metrics.json")
    assert {"f1", "precision", "recall"} <= set(result["metrics"])
    model, tokenizer = loaded(folder / "adapter"), AutoTokenizer.from_pretrained(folder / "adapter")
    for block in (folder / "predictions.txt").read_text(encoding="utf-8").strip().split("\n\n"):
        words, tags = zip(*((line.split()[0], line.split()[-1]) for line in block.split("\n")), strict=True)
        encoded = tokenizer(list(words), is_split_into_words=True, return_tensors="pt")
        best, owners = logits_of(model, dict(encoded))[0].argmax(-1).tolist(), encoded.word_ids(0)
        assert [model.config.id2label[best[owners.index(i)]] for i in range(len(words))] == list(tags)


def test_conversations_give_a_language_model_with_samples(finished_chat: Path) -> None:
    result = read(finished_chat / "metrics.json")
    assert {"perplexity", "token_accuracy"} <= set(result["metrics"])
    samples = read(finished_chat / "samples.jsonl")
    assert len(samples) == 2
    assert all({"prompt", "answer", "reference"} <= set(sample) for sample in samples)
    written = read(finished_chat / "predictions.jsonl")[0]
    model, tokenizer = loaded(finished_chat / "adapter"), AutoTokenizer.from_pretrained(finished_chat / "adapter")
    ids = tokenizer.apply_chat_template(
        written["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    found = model.generate(**ids, max_new_tokens=8, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
    assert found == written["token_ids"]
    assert (finished_chat / "adapter_padded" / "adapter_config.json").exists(), "a language model's padded form"


def as_prompt(row: dict[str, object]) -> dict[str, object]:
    user, assistant = row["messages"]  # type: ignore[misc]
    return {"prompt": [user], "completion": [assistant]}


def as_sharegpt(row: dict[str, object]) -> dict[str, object]:
    user, assistant = row["messages"]  # type: ignore[misc]
    return {"conversations": [{"from": "human", "value": user["content"]},
                              {"from": "gpt", "value": assistant["content"]}]}  # fmt: skip


def as_alpaca(row: dict[str, object]) -> dict[str, object]:
    user, assistant = row["messages"]  # type: ignore[misc]
    return {"instruction": user["content"], "input": "", "output": assistant["content"]}


@pytest.mark.parametrize("form", [as_prompt, as_sharegpt, as_alpaca])
def test_the_four_formats_of_conversations_are_one_task(
    finished_chat: Path, chat_model: Path, tmp_path: Path, form: Callable[..., dict[str, object]]
) -> None:
    """The first format is `finished_chat`'s."""
    data = lines(tmp_path / "messages.jsonl", [form(row) for row in conversations()])
    succeed(*language_arguments(chat_model, data, tmp_path / "runs", stage="search"))
    assert read(tmp_path / "runs" / "tiny" / "ranks.json")["loss"] == read(finished_chat / "ranks.json")["loss"]


def test_texts_from_an_own_table_of_pairs(chat_model: Path, tmp_path: Path) -> None:
    rows = [{"source": row["meaning_representation"], "target": row["human_reference"]} for row in e2e_rows()]
    data = lines(tmp_path / "pairs.jsonl", rows)
    more = {"task__type": "generation", "task__name": "pairs", "task__metrics": "[bleu]", "method": "lora"}
    argv = language_arguments(chat_model, data, tmp_path / "runs", **more)
    argv = [word for pair in zip(argv[::2], argv[1::2], strict=True) for word in pair if pair[0] != "--task.samples"]
    succeed(*argv, "--decode.num_beams", "2")
    folder = tmp_path / "runs" / "tiny"
    assert "bleu" in read(folder / "metrics.json")["metrics"]
    predicted = (folder / "predictions.txt").read_text(encoding="utf-8").split("\n")
    assert predicted[0] == " ".join(read(folder / "predictions.jsonl")[0]["text"].split())


def test_the_gain_of_a_language_model_is_counted_from_the_untouched_base(chat_model: Path, tmp_path: Path) -> None:
    """The task of E2E, with its own references of many; the loss a token."""
    data = write_e2e(tmp_path / "data")
    more = {"task__type": "generation", "task__name": "e2e", "task__metrics": "[bleu,nist]", "answer__rule": "shares"}
    argv = language_arguments(chat_model, data, tmp_path / "runs", **more)
    argv = [word for pair in zip(argv[::2], argv[1::2], strict=True) for word in pair if pair[0] != "--task.samples"]
    succeed(*argv, "--decode.num_beams", "1")
    record = read(tmp_path / "runs" / "tiny" / "ranks.json")
    assert record["without"] == "base model"
    assert record["share_total"] == pytest.approx(record["gain"], rel=0.05, abs=2e-3)


def test_rows_of_one_input_are_on_one_side_of_the_split(tiny: Tiny, tmp_path: Path, folder: Path) -> None:
    """Four copies of each text: the rows of D_val are whole inputs."""
    table = tmp_path / "d.csv"
    inputs = [f"the film was {a} and the room {b}" for a in ("dull", "clean") for b in ("dull", "noisy", "clean")]
    table.write_text("text,label\n" + "".join(f"{x},{'bad' if i % 2 else 'good'}\n" * 4 for i, x in enumerate(inputs)))
    given = options(task__type="text", task__path=table, task__train_rows="null", task__evaluation_rows="null")
    succeed(*tiny(*given, "--answer.rows", "1000", "--stage", "search", "--task.holdout_share", "0.1"))
    record = read(folder / "ranks.json")
    assert record["rows"] == 4 * record["sources"]


def test_an_own_table_without_a_config_file(tiny: Tiny, tmp_path: Path, folder: Path) -> None:
    succeed(*tiny(*own_table(tmp_path), "--answer.rows", "8", "--task.evaluation_rows", "null"))
    rows = pd.read_csv(folder / "predictions.csv")
    assert len(rows) == 8
    assert "accuracy" in read(folder / "metrics.json")["metrics"]
