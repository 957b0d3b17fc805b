"""Where conversations come from: files, splits of a data set, rows held out by prompt."""

import json
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.tasks import Chat
from autolora.problems.tasks.readers import chat_sources
from autolora.problems.tasks.readers.chat_sources import ChatSources


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows))
    return path


def sources(path: Any, **settings: Any) -> ChatSources:
    return ChatSources(Chat(type="chat", path=str(path), **settings), 0)


PAIRS = [(f"q{i % 10}", f"a{i}") for i in range(20)]


def test_all_answers_to_a_prompt_are_held_out_together_and_the_columns_are_told_once(
    tmp_path: Path, log_lines: list[str]
) -> None:
    path = write(tmp_path / "a.jsonl", PAIRS)
    train, held_out = sources(path, holdout_share=0.3).read()
    assert len(train) == 14
    assert len(held_out) == 6
    assert not {chat.source for chat in train} & {chat.source for chat in held_out}
    assert held_out[0].where.startswith(f"--task.path: {path}, line ")
    assert log_lines == [f"INFO chat: --task.path: {path}, 20 rows, read from columns: prompt, completion"]


def test_texts_are_not_evaluated_beside_conversations(tmp_path: Path) -> None:
    """A model was judged in a form that it had not learned, and its card said the other form."""
    texts, pairs = tmp_path / "texts.jsonl", write(tmp_path / "pairs.jsonl", PAIRS)
    texts.write_text("".join(json.dumps({"text": f"t{i}"}) + "\n" for i in range(5)))
    with pytest.raises(
        UserError, match=r"texts\.jsonl, line 1 holds a plain text, but the training rows hold turns of "
    ):
        sources(pairs, test_path=str(texts)).read()
    with pytest.raises(UserError, match=r"pairs\.jsonl, line 1 holds turns of a conversation, but .* a plain text \("):
        sources(texts, validation_path=str(pairs)).read()


def test_named_files_are_evaluated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", PAIRS)
    other = write(tmp_path / "b.jsonl", PAIRS[:3])
    for split in ("validation", "test"):
        found = sources(path, **{f"{split}_path": str(other)})
        train, evaluated = found.read()
        assert (len(train), len(evaluated), found.split) == (20, 3, split)
        assert found.origin(split) == f"--task.{split}_path: {other}"
    assert sources(path).origin(None) == f"--task.path: {path}"


def test_one_prompt_cannot_be_held_out(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"all rows of .*a\.jsonl begin with the same prompt, .*task\.validation_path$"
    ):
        sources(write(tmp_path / "a.jsonl", PAIRS[:1])).read()


class Rows(list):
    def to_list(self) -> list[dict[str, str]]:
        return [{"prompt": p, "completion": c} for p, c in self]


def test_splits_of_a_data_set_are_taken_and_none_is_made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there: dict[str, Any] = {"train_sft": Rows(PAIRS), "test": Rows(PAIRS[:2])}
    monkeypatch.setattr(chat_sources, "load_splits", lambda *a, **k: there)
    found = sources("org/data")
    train, evaluated = found.read()
    assert (len(train), len(evaluated), found.split, found.held_out) == (20, 2, "test", False)
    assert found.origin("test") == "--task.path: org/data"
    with pytest.raises(UserError, match=r"^--task\.evaluation_split: org/data has no split 'dev'; it has: train_sft"):
        sources("org/data", evaluation_split="dev").read()
    other = write(tmp_path / "b.jsonl", PAIRS[:3])
    assert len(sources("org/data", validation_path=str(other)).read()[1]) == 3
    del there["test"]
    found = sources("org/data")
    assert len(found.read()[1]) == 2
    assert found.held_out
    there["dev"] = there.pop("train_sft")
    with pytest.raises(UserError, match=r"^--task\.path: org/data has no split train; it has: dev"):
        sources("org/data").read()


def test_of_several_training_splits_train_is_read_and_the_others_are_told(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    there: dict[str, Any] = {"train_small": Rows(PAIRS[:4]), "train": Rows(PAIRS), "test": Rows(PAIRS[:2])}
    monkeypatch.setattr(chat_sources, "load_splits", lambda *a, **k: there)
    assert len(sources("org/data", holdout_share=0.3).read()[0]) == 20
    assert [line for line in log_lines if line.startswith("WARNING")] == [
        "WARNING --task.path: of org/data the split train is trained on; not read: train_small",
        "WARNING --task.holdout_share: does nothing, as the split test of org/data is evaluated",
    ]


def test_thoughts_under_a_key_that_is_not_read_are_told(tmp_path: Path, log_lines: list[str]) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "thinking": "hm"}]
    path = tmp_path / "a.jsonl"
    rows = [{"messages": [{**turns[0], "content": f"q{i}"}, turns[1]]} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources(path).read()
    assert log_lines[-1] == (
        f"WARNING --task.path: {path}: 4 turns have thoughts in 'thinking', which is not read; called "
        f"'reasoning_content', they reach the chat template"
    )


def test_what_is_held_out_of_too_few_are_prompts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [("q1", "a"), ("q2", "a")] * 9)
    with pytest.raises(UserError, match=r"0\.8 of the 2 prompts of .* give more prompts or a smaller share"):
        sources(path, holdout_share=0.8).read()


def test_a_local_folder_is_a_data_set(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", PAIRS)
    write(tmp_path / "validation.jsonl", PAIRS[:4])
    found = sources(tmp_path)
    train, evaluated = found.read()
    assert (len(train), len(evaluated), found.split) == (20, 4, "validation")


def configured(folder: Path, default: str = "") -> Path:
    """A local folder of a data set with the configurations short and long."""
    head = ""
    for name in ("short", "long"):
        head += f"- config_name: {name}\n  data_files: {name}.jsonl\n"
        head += "  default: true\n" if name == default else ""
    folder.mkdir()
    (folder / "README.md").write_text(f"---\nconfigs:\n{head}---\n")
    for name in ("short", "long"):
        write(folder / f"{name}.jsonl", [(p, f"{name} {c}") for p, c in PAIRS])
    return folder


def test_one_of_several_configurations_is_chosen_by_its_name(tmp_path: Path, log_lines: list[str]) -> None:
    folder = configured(tmp_path / "data")
    for name in ("short", "long"):
        train, _ = sources(folder, configuration=name).read()
        assert train[0].messages[1]["content"].startswith(name)
        assert f"INFO data: configuration {name} of {folder}" in log_lines
    for wrong, told in ((None, "null"), ("mine", "'mine'")):
        with pytest.raises(UserError) as caught:
            sources(folder, configuration=wrong).read()
        assert str(caught.value) == (
            f"--task.configuration: {told} is not allowed; {folder} has the configurations short, long"
        )


@pytest.mark.parametrize("there", [True, False])
def test_a_file_of_another_format_is_refused(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "a.txt").write_text("prompt,completion\na,b\n")
    with pytest.raises(UserError, match=r"a\.txt' is not allowed; allowed: .* \.json, \.parquet, \.csv, \.tsv$"):
        sources(tmp_path / "a.txt").read()


def test_columns_of_texts_are_read_from_csv_and_tsv(tmp_path: Path) -> None:
    """Alpaca's rows often stand in a CSV file, which was refused."""
    rows = [("instruction", "input", "output"), ("Add.", "1, 2", "3"), ("Greet.", "", "Hi")]
    (tmp_path / "a.csv").write_text("".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows))
    (tmp_path / "a.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    for name in ("a.csv", "a.tsv"):
        train, _ = sources(tmp_path / name, validation_path=str(tmp_path / name)).read()
        assert [[turn["content"] for turn in chat.messages] for chat in train] == [
            ["Add.\n\n1, 2", "3"],
            ["Greet.", "Hi"],
        ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("messages\n\"[{'role': 'user'}]\"\n", r"line 2: column 'messages' holds a text; allowed: a list of turns$"),
        ("prompt,completion,prompt\na,b,c\n", r"a\.csv has column 'prompt' 2 times; allowed: once$"),
        ("question,answer\na,b\n", r"a\.csv has no conversations; .*; it has: question, answer$"),
        (None, r"^--task\.path: no file '.*a\.csv'$"),
    ],
)
def test_a_table_that_holds_no_conversations_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        sources(tmp_path / "a.csv").read()


def test_all_rows_that_cannot_be_learned_are_told_at_once(tmp_path: Path, log_lines: list[str]) -> None:
    """Twenty empty answers took twenty attempts, as only the first row was named."""
    rows = [("q", "") if i % 3 == 0 else pair for i, pair in enumerate(PAIRS)]
    path = write(tmp_path / "a.jsonl", rows)
    where, told = f"--task.path: {path}", "7 rows (lines 1, 4, 7, 10, 13, ...)"
    with pytest.raises(UserError) as caught:
        sources(path).read()
    reason = "line 1: column 'completion' has no text"
    advice = "mend or remove them, or give --task.bad_rows drop"
    assert str(caught.value) == f"{where}: {told} cannot be learned; {reason}; {advice}"
    train, evaluated = sources(path, bad_rows="drop").read()
    assert len(train) + len(evaluated) == 13
    assert f"{path}, line 2" in " ".join(chat.where for chat in (*train, *evaluated)), "the numbers are the file's"
    assert f"WARNING {where}: task.bad_rows drop leaves out {told} that cannot be learned; {reason}" in log_lines


@pytest.mark.parametrize("bad_rows", ["refuse", "drop"])
def test_a_single_bad_row_is_refused_alone_and_no_row_is_too_few(tmp_path: Path, bad_rows: str) -> None:
    one = write(tmp_path / "one.jsonl", [*PAIRS[:2], ("q", "")])
    if bad_rows == "refuse":
        with pytest.raises(UserError, match=r"one\.jsonl, line 3: column 'completion' has no text$"):
            sources(one, bad_rows=bad_rows).read()
    else:
        assert [len(chats) for chats in sources(one, bad_rows=bad_rows).read()] == [1, 1]
    none = write(tmp_path / "none.jsonl", [("q", "")] * 2)
    with pytest.raises(
        UserError, match=r"none\.jsonl: 2 rows \(lines 1, 2\) cannot be learned; line 1: .* text; mend them$"
    ):
        sources(none, bad_rows=bad_rows).read()


def test_the_advice_for_one_row_is_not_given_for_several(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": " "}]
    path.write_text("".join(json.dumps({"messages": turns}) + "\n" for _ in range(2)))
    with pytest.raises(UserError, match=r"; line 1: turn 2 of 'messages' has no text; mend them$"):
        sources(path).read()


@pytest.mark.parametrize("name", ["a.CSV", "a.JSONL"])
def test_capitals_in_the_ending_of_a_file_do_not_matter(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, PAIRS)
    if name.endswith(".CSV"):
        path.write_text("prompt,completion\n" + "".join(f"{p},{c}\n" for p, c in PAIRS))
    train, held_out = sources(path).read()
    assert len(train) + len(held_out) == len(PAIRS)
    with pytest.raises(UserError, match=r"^--task\.path: no file 'none\.JSONL'"):
        sources("none.JSONL").read()
