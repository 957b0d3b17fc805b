"""Conversations as a task: what is cut, dropped and told, and which answers are sampled."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, NamedSplit, concatenate_datasets
from tokenizers.processors import TemplateProcessing

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.tasks import Chat
from autolora.problems.data import prepare
from autolora.problems.halves import split_rows
from autolora.problems.tasks import make_task
from autolora.problems.tasks.chat import Chats
from autolora.problems.tasks.labels import IGNORED
from autolora.problems.tasks.split_names import UNUSED
from autolora.problems.tasks.templates import Template
from tests.helpers.chat_toys import FORGETFUL, OURS, SILENT, SYSTEM, TURNS, chat_tokenizer


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(count: int = 12) -> list[dict[str, Any]]:
    return [{"prompt": f"Is {i} even?", "completion": "yes " * (1 + i)} for i in range(count)]


def chats(path: Path, **settings: Any) -> Chats:
    return Chats(Chat(type="chat", path=str(path), **{"max_length": 4096, **settings}), 0)


def encoded(task: Chats, tokenizer: Any) -> tuple[Dataset, Dataset]:
    rows = task.rows()
    return task.encode(rows.train, tokenizer), task.encode(rows.evaluation["validation"], tokenizer)


def test_rows_are_those_of_the_template_with_their_source_and_reference(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer()
    task = chats(write(tmp_path / "a.jsonl", [{"messages": [SYSTEM, *TURNS]}, {"messages": TURNS[:2]}]))
    train, evaluation = encoded(task, tokenizer)
    by_length = sorted([*train, *evaluation], key=lambda row: -row["length"])
    for row, turns in zip(by_length, ([SYSTEM, *TURNS], TURNS[:2]), strict=True):
        assert (row["input_ids"], row["labels"]) == Template(tokenizer).labelled(turns)
        assert row["length"] == len(row["input_ids"]) == len(row["attention_mask"])
        assert json.loads(row["prompt"]) == turns[:-1]
        assert (row["reference"], row["cut"]) == (turns[-1]["content"], False)
    batch = task.collate(tokenizer)(list(train) + list(evaluation))
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert batch["labels"].shape[1] % 8 == 0
    padding = batch["attention_mask"] == 0
    assert padding.any()
    assert set(batch["labels"][padding].tolist()) == {IGNORED}


def test_long_rows_are_cut_at_their_end_and_those_without_an_answer_dropped(
    tmp_path: Path, log_lines: list[str]
) -> None:
    tokenizer = chat_tokenizer()
    path = write(tmp_path / "a.jsonl", [*rows_of(), {"prompt": "why " * 60, "completion": "so"}])
    whole, _ = encoded(chats(path, validation_path=str(path)), tokenizer)
    log_lines.clear()
    most = sorted(whole["length"])[6]
    train, _ = encoded(chats(path, validation_path=str(path), max_length=most), tokenizer)
    longer = sum(length > most for length in whole["length"])
    done = f"{longer - 1} are cut; 1 are dropped, as no token of an answer is left"
    assert log_lines[-2:] == [
        f"WARNING {longer} of 13 {rows} are longer than task.max_length {most}: {done}"
        for rows in ("training rows", "rows of validation")
    ]
    assert len(train) == 12
    assert max(train["length"]) == most
    for row, full in zip(train, whole, strict=False):
        assert row["input_ids"] == full["input_ids"][:most]
        assert row["labels"] == full["labels"][:most]
        assert row["cut"] == (full["length"] > most)
    log_lines.clear()
    train, _ = encoded(chats(path, validation_path=str(path), max_length=most, too_long="drop"), tokenizer)
    assert len(train) == 13 - longer
    done = "they are dropped (task.too_long drop)"
    assert log_lines[-1] == f"WARNING {longer} of 13 rows of validation are longer than task.max_length {most}: {done}"
    with pytest.raises(UserError, match=r"^--task\.max_length: 4 is not allowed, as none of 13 training rows has a"):
        encoded(chats(path, validation_path=str(path), max_length=4), tokenizer)


@pytest.mark.parametrize(("most", "left"), [(4096, 5), (4, 0)])
def test_unused_rows_are_told_as_such_and_refuse_no_run(
    tmp_path: Path, log_lines: list[str], most: int, left: int
) -> None:
    """They were counted as training rows, and if all were too long, the run ended with that error."""
    tokenizer, task = chat_tokenizer(), chats(write(tmp_path / "a.jsonl", rows_of()), max_length=most)
    unused = concatenate_datasets([task.rows().train.select(range(5))], split=NamedSplit(UNUSED))
    assert len(task.encode(unused, tokenizer)) == left
    told = [line for line in log_lines if "unused training rows" in line]
    assert len(told) == (0 if left else 1)
    assert all(line.startswith("WARNING 5 of 5 unused training rows are longer than") for line in told)


@pytest.mark.parametrize("too_long", ["cut", "drop"])
def test_rows_without_an_answer_are_told_apart_from_long_ones(
    tmp_path: Path, log_lines: list[str], too_long: str
) -> None:
    tokenizer = chat_tokenizer(SILENT)
    path = write(tmp_path / "a.jsonl", [*rows_of(3), {"prompt": "why?", "completion": "silence"}])
    settings: dict[str, Any] = {"validation_path": str(path), "too_long": too_long}
    whole, _ = encoded(chats(path, **settings), tokenizer)
    assert (len(whole), log_lines[-1]) == (
        3,
        "WARNING 1 of 4 rows of validation are dropped, as they have no token of an answer",
    )
    log_lines.clear()
    most = max(whole["length"]) - 1
    encoded(chats(path, max_length=most, **settings), tokenizer)
    done = "1 are cut" if too_long == "cut" else "they are dropped (task.too_long drop)"
    assert log_lines[1:3] == [
        f"WARNING 1 of 4 training rows are longer than task.max_length {most}: {done}",
        "WARNING 1 of 4 training rows are dropped, as they have no token of an answer",
    ]
    path = write(tmp_path / "b.jsonl", [{"prompt": "why?", "completion": "silence"}] * 2)
    with pytest.raises(
        UserError, match=r"^--task\.path: .*b\.jsonl: none of 2 training rows has a token of an answer; allowed: rows"
    ):
        encoded(chats(path, validation_path=str(path)), tokenizer)


def test_what_is_wrong_with_rows_to_evaluate_names_their_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows_of(3))
    other = write(tmp_path / "b.jsonl", [{"prompt": "why?", "completion": "silence"}])
    task = chats(path, test_path=str(other))
    rows = task.rows().evaluation["test"]
    with pytest.raises(UserError, match=r"^--task\.test_path: .*b\.jsonl: none of 1 rows of test has a token of an"):
        task.encode(rows, chat_tokenizer(SILENT))
    long = write(tmp_path / "c.jsonl", [{"prompt": "why? " * 50, "completion": "so"}])
    with pytest.raises(UserError, match=r"^--task\.max_length: 64 is not allowed, as none of 1 rows of validation"):
        encoded(chats(path, validation_path=str(long), max_length=64), chat_tokenizer())


def test_a_text_is_learned_whole_without_a_template(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(None)
    path = write(tmp_path / "a.jsonl", [{"text": "The Mill is a pub."}, {"text": "Zizzi<|endoftext|>"}])
    task = chats(path, validation_path=str(path))
    train, evaluation = encoded(task, tokenizer)
    for row, text in zip(train, ("The Mill is a pub.<|endoftext|>", "Zizzi<|endoftext|>"), strict=True):
        assert tokenizer.decode(row["input_ids"]) == text, "one end, also where the text has it"
        assert row["labels"] == [IGNORED, *row["input_ids"][1:]]
    assert len(task.decoded(evaluation)) == 0, "nothing is asked, so that nothing is answered"
    assert task.prompts(task.decoded(evaluation), tokenizer) == []
    assert task.ends(tokenizer) == [tokenizer.eos_token_id]
    assert task.form(tokenizer) == "prompt: none, the texts themselves are learned"


def test_a_text_that_a_template_has_rendered_gets_no_second_beginning_or_end(tmp_path: Path) -> None:
    """Its turns were learned between two beginnings and two ends."""
    tokenizer = chat_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    rendered = Template(tokenizer).render(TURNS)
    texts = {
        rendered: f"<bos>{rendered}",
        f"<bos>{rendered}": f"<bos>{rendered}",
        "<bos>plain<|endoftext|>\n": "<bos>plain<|endoftext|>\n",
        "one<|endoftext|>two": "<bos>one<|endoftext|>two<|endoftext|>",
    }
    path = write(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    train, _ = encoded(chats(path, validation_path=str(path)), tokenizer)
    assert [tokenizer.decode(ids) for ids in train["input_ids"]] == list(texts.values())


def test_a_tokenizer_that_ends_texts_itself_ends_them_once(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(None)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", tokenizer.eos_token_id)]
    )
    path = write(tmp_path / "a.jsonl", [{"text": "one"}, {"text": "two<|endoftext|>"}])
    train, _ = encoded(chats(path, validation_path=str(path)), tokenizer)
    assert [tokenizer.decode(ids) for ids in train["input_ids"]] == ["one<|endoftext|>", "two<|endoftext|>"]


def test_without_a_template_nothing_is_learned_and_one_from_a_file_helps(tmp_path: Path) -> None:
    path, tokenizer = write(tmp_path / "a.jsonl", rows_of()), chat_tokenizer(None)
    message = (
        r"^--task\.chat_template: null is not allowed, as .* has no chat template .* --config chat_smollm2\.yaml$"
    )
    with pytest.raises(UserError, match=message):
        encoded(chats(path), tokenizer)
    (tmp_path / "t.jinja").write_text(OURS["marked"])
    task = chats(path, chat_template=str(tmp_path / "t.jinja"))
    task.adapt_tokenizer(tokenizer)
    assert len(encoded(task, tokenizer)[0]) == 11
    assert task.form(tokenizer) == f"prompt: {tmp_path / 't.jinja'}"


def test_a_row_that_does_not_go_through_the_template_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": TURNS}, {"messages": [SYSTEM, *TURNS]}])
    task = chats(path, validation_path=str(path))
    with pytest.raises(
        UserError, match=r"^--task\.path: .*a\.jsonl, line 2: the chat template, .*No system turn here"
    ):
        encoded(task, chat_tokenizer(OURS["no system turn"]))
    thinking = [TURNS[0], {"role": "assistant", "content": "<think>x</think>y"}, *TURNS[2:]]
    path = write(tmp_path / "b.jsonl", [{"messages": TURNS}, {"messages": thinking}])
    with pytest.raises(UserError, match=r"^--task\.chat_template: .*b\.jsonl, line 2.*generation"):
        encoded(chats(path, validation_path=str(path)), chat_tokenizer(FORGETFUL))


def test_a_prompt_that_a_template_with_marks_refuses_is_named_before_the_training(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": TURNS}, {"messages": TURNS}])
    template = "{% if add_generation_prompt %}{{ raise_exception('No prompts') }}{% endif %}" + OURS["marked"]
    with pytest.raises(UserError, match=r"^--task\.path: .*a\.jsonl, line 1: the chat template, .*No prompts"):
        encoded(chats(path, validation_path=str(path)), chat_tokenizer(template))


def test_an_example_of_prompt_and_answer_is_told_once(tmp_path: Path, log_lines: list[str]) -> None:
    path = write(tmp_path / "a.jsonl", rows_of())
    config = parse(["--task.type", "chat", "--task.path", str(path), "--task.max_length", "64"]).config
    prepare(make_task(config), chat_tokenizer(), config)
    (line,) = [line for line in log_lines if "learned" in line]
    assert line.startswith(r"INFO prompt: the chat template of the model; given '<|im_start|>user\nIs ")
    assert line.endswith(r"<|im_end|>\n'")


def test_turns_of_weight_0_are_read_and_not_learned(tmp_path: Path) -> None:
    turns = [TURNS[0], TURNS[1] | {"weight": 1}, TURNS[2], TURNS[3] | {"weight": 0}]
    path = write(tmp_path / "a.jsonl", [{"messages": turns}])
    for tokenizer in (chat_tokenizer(), chat_tokenizer(OURS["marked"])):
        row = encoded(chats(path, validation_path=str(path)), tokenizer)[0][0]
        learned = tokenizer.decode([label for label in row["labels"] if label != IGNORED])
        assert learned.strip() == f"{TURNS[1]['content']}<|im_end|>"
        assert TURNS[3]["content"] in tokenizer.decode(row["input_ids"])
        assert row["reference"] == TURNS[1]["content"]
        assert json.loads(row["prompt"]) == TURNS[:1]


def test_samples_are_spread_over_the_rows_that_were_not_cut(tmp_path: Path) -> None:
    path, tokenizer = write(tmp_path / "a.jsonl", rows_of(12)), chat_tokenizer()
    task = chats(path, validation_path=str(path), samples=3)
    _, evaluation = encoded(task, tokenizer)
    rows = task.decoded(evaluation)
    asked = [json.loads(row["prompt"])[0]["content"] for row in rows]
    assert asked == ["Is 0 even?", "Is 4 even?", "Is 8 even?"]
    assert task.prompts(rows, tokenizer)[1] == Template(tokenizer).prompt(json.loads(rows[1]["prompt"]))
    assert task.messages(rows[1], tokenizer) == [{"role": "user", "content": "Is 4 even?"}]
    assert task.ends(tokenizer) == [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert len(chats(path, samples=0).decoded(evaluation)) == 0
    short = chats(path, validation_path=str(path), samples=100, max_length=sorted(evaluation["length"])[5])
    assert len(short.decoded(encoded(short, tokenizer)[1])) == sum(
        length <= sorted(evaluation["length"])[5] for length in evaluation["length"]
    )


def test_a_folder_with_training_rows_alone_has_some_held_out(tmp_path: Path) -> None:
    turns = [{"prompt": f"p{i}", "completion": "c"} for i in range(10)]
    for name, held_out in (("train", True), ("validation", False)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(turn) + "\n" for turn in turns))
        task = Chats(Chat(type="chat", path=str(tmp_path)), 0)
        assert list(task.rows().evaluation) == ["validation"]
        assert task.held_out == held_out


def test_d_val_asks_for_prompts_that_were_not_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [row for row in rows_of() for _ in range(3)])
    config = parse(["--task.type", "chat", "--task.path", str(path), "--task.max_length", "64"]).config
    task = make_task(config)
    train = task.encode(task.rows().train, chat_tokenizer())
    d_tr, d_val = split_rows(train, config)
    assert not set(train.select(d_tr)["source"]) & set(train.select(d_val)["source"])


def test_one_conversation_up_to_different_turns_is_on_one_side(tmp_path: Path) -> None:
    """Each answer of such a row is learned, so an evaluated one must not stand in a longer or shorter training row."""
    whole = [[{"role": role, "content": f"{role} {turn} of {number}"}
              for turn in range(3) for role in ("user", "assistant")] for number in range(12)]  # fmt: skip
    path = write(tmp_path / "a.jsonl", [{"messages": turns[:end]} for turns in whole for end in (2, 4, 6)])
    config = parse(["--task.type", "chat", "--task.path", str(path)]).config
    task = make_task(config)
    train, evaluation = encoded(task, chat_tokenizer())
    d_tr, d_val = split_rows(train, config)

    def conversations(rows: Any) -> set[str]:
        return {json.loads(prompt)[0]["content"] for prompt in rows["prompt"]}

    sides = [conversations(rows) for rows in (train.select(d_tr), train.select(d_val), evaluation)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 12


def test_metrics_are_perplexity_and_accuracy_of_tokens(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows_of())
    assert chats(path).token_metrics(2.0, 0.25) == {"perplexity": math.exp(2.0), "token_accuracy": 0.25}
    assert chats(path, metrics=["token_accuracy"]).token_metrics(2.0, 0.25) == {"token_accuracy": 0.25}
    assert chats(path).token_metrics(1e4, 0.0)["perplexity"] < math.inf
    assert chats(path).score({"loss": 2.0}) == -2.0
