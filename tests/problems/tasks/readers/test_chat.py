"""Conversations from every form of columns, in their order of precedence; bad rows are named."""

import json
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.problems.tasks.readers.chat import Chat, chat_of, form_of
from autolora.problems.tasks.readers.numbering import LINE, Numbered

W = "--task.path: a.jsonl"
MESSAGES = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
EVERY = {
    "messages": MESSAGES, "conversations": SHAREGPT, "prompt": "q", "completion": "a", "instruction": "q", "input": "",
    "output": "a", "text": "q a",
}  # fmt: skip
PRECEDENCE = [
    ("messages",), ("conversations",), ("prompt", "completion"), ("instruction", "input", "output"), ("text",),
]  # fmt: skip


def columns_of(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """The columns that are read of rows that stand on every second line, from the second on."""
    return form_of(W, Numbered(rows, range(2, 2 * len(rows) + 1, 2), LINE))


def chat(**row: Any) -> Chat:
    return chat_of(W, row, columns_of([row]))


def test_the_first_form_that_is_there_is_taken() -> None:
    row = dict(EVERY)
    for form in PRECEDENCE:
        assert columns_of([row]) == form
        found = chat_of(W, row, form)
        assert found.text == "q a" if form == ("text",) else found.messages == tuple(MESSAGES)
        row = {name: value for name, value in row.items() if name not in form}
    with pytest.raises(UserError, match=r"has no conversations; allowed: the columns messages.*it has: none$"):
        columns_of([row])


def test_half_a_form_and_columns_of_nulls_are_none() -> None:
    assert columns_of([{"messages": None, "prompt": "x", "text": "a"}]) == ("text",)
    assert columns_of([{"instruction": "x", "output": "y"}]) == ("instruction", "output")
    with pytest.raises(UserError, match=r"it has: question, answer$"):
        columns_of([{"question": "x", "answer": "y"}])


def test_many_turns_parts_of_texts_and_thoughts_are_kept() -> None:
    found = chat(messages=[
        {"role": "system", "content": ""}, {"role": "developer", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "tool_calls": None, "reasoning_content": "hm"},
    ])  # fmt: skip
    assert found.messages == (
        {"role": "system", "content": "s"}, {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "c", "reasoning_content": "hm"},
    )  # fmt: skip
    assert found.last == 2
    assert json.loads(found.source) == list(found.messages[:2])


def test_conversations_may_also_name_roles_as_messages_do() -> None:
    assert chat(conversations=MESSAGES).messages == tuple(MESSAGES)


def test_of_prompt_and_completion_the_completion_alone_is_learned() -> None:
    turns = chat(
        prompt=[*MESSAGES, {"role": "user", "content": "r"}], completion=[{"role": "assistant", "content": "b"}]
    )
    assert turns.learned == (3,)
    texts = chat(prompt="q", completion="a")
    assert (texts.messages, texts.learned) == (tuple(MESSAGES), (1,))


def test_an_input_stands_below_its_instruction() -> None:
    assert chat(instruction="Add.", input="1, 2", output="3").messages[0]["content"] == "Add.\n\n1, 2"
    assert chat(instruction="Add.", input=None, output="3").messages[0]["content"] == "Add."


GREETING = {"role": "assistant", "content": "Hello!"}
SYSTEM = {"role": "system", "content": "Be short."}


def test_assistant_turns_before_the_first_user_s_are_not_learned() -> None:
    assert chat(messages=[SYSTEM, GREETING, *MESSAGES]).learned == (3,)
    assert chat(messages=[GREETING, *MESSAGES]).learned == (2,)
    with pytest.raises(UserError, match="no assistant turn after a user's, so nothing can be learned"):
        chat(messages=[SYSTEM, GREETING])
    with pytest.raises(UserError, match="no assistant turn after a user's, so nothing can be learned"):
        chat(prompt=[SYSTEM], completion="a")


@pytest.mark.parametrize("key", ["weight", "train"])
def test_turns_that_are_not_to_be_learned_are_read(key: str) -> None:
    two = [MESSAGES[0], MESSAGES[1] | {key: 0}, MESSAGES[0], MESSAGES[1] | {key: 1}]
    assert chat(messages=two).learned == (3,)
    assert chat(messages=two).messages == (*MESSAGES, *MESSAGES)
    assert chat(messages=[*two[2:], *two[:2]]).learned == (1,)
    assert chat(messages=[*two[2:], *two[:2]]).last == 1
    assert chat(messages=[MESSAGES[0], MESSAGES[1] | {key: None}]).learned == (1,)
    assert chat(messages=[MESSAGES[0] | {key: 0.5}, MESSAGES[1]]).learned == (1,), "a user's turn is never learned"
    with pytest.raises(UserError, match="no assistant turn after a user's that is to be learned"):
        chat(messages=two[:2])
    with pytest.raises(UserError, match=rf"turn 2 of 'messages' has {key} '0\.5'; allowed: (0|false) \(not learned\)"):
        chat(messages=[MESSAGES[0], MESSAGES[1] | {key: 0.5}])


def test_a_column_system_is_the_system_turn_of_a_conversation_without_one() -> None:
    system = SYSTEM["content"]
    for row in (
        {"conversations": SHAREGPT}, {"instruction": "q", "output": "a"}, {"messages": MESSAGES},
        {"prompt": "q", "completion": "a"},
    ):  # fmt: skip
        found = chat(**row, system=system)
        assert found.messages == (SYSTEM, *MESSAGES)
        assert found.learned == (2,)
        assert chat(**row, system=" ").messages == tuple(MESSAGES)
        assert columns_of([row, row | {"system": system}])[-1] == "system"
    assert chat(messages=[SYSTEM, *MESSAGES], system="Another one.").messages == (SYSTEM, *MESSAGES)
    assert columns_of([{"text": "a", "system": "b"}]) == ("text",)


def test_the_history_of_an_instruction_is_read_as_turns_that_are_not_learned(log_lines: list[str]) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": "q", "output": "a", "history": [["p", "b"]]},
        {"instruction": "q", "output": "a", "history": []},
    ]
    form = columns_of(rows)
    assert form == ("instruction", "output", "history")
    found = chat_of(W, rows[0], form)
    assert [turn["content"] for turn in found.messages] == ["p", "b", "q", "a"]
    assert [turn["role"] for turn in found.messages] == ["user", "assistant"] * 2
    assert found.learned == (3,)
    assert chat_of(W, rows[1], form).messages == tuple(MESSAGES)
    assert log_lines == []


def test_one_broken_history_is_named_beside_whole_ones() -> None:
    """It switched off the histories of all rows, with a warning."""
    rows = [{"instruction": "q", "output": "a", "history": history} for history in ([["p", "b"]], [["p"]])]
    with pytest.raises(UserError, match=r"a\.jsonl, line 4: column 'history' is no list of \[user, assistant\] pairs"):
        columns_of(rows)


@pytest.mark.parametrize(
    "row",
    [{"instruction": "q", "output": "a", "history": "p b"}, {"messages": MESSAGES, "history": [["p", "b"]]}],
    ids=["another form", "other columns"],
)
def test_another_history_is_told_of_once(log_lines: list[str], row: dict[str, Any]) -> None:
    form = columns_of([row, row])
    assert chat_of(W, row, form).messages == tuple(MESSAGES)
    (line,) = log_lines
    assert line.startswith(f"WARNING {W}: column 'history' is not read; it is read beside instruction and output")


@pytest.mark.parametrize("name", ["tools", "functions"])
def test_tools_that_are_offered_are_refused(name: str) -> None:
    for nothing in (None, "", "[]", [], {}):
        assert chat(messages=MESSAGES, **{name: nothing}).messages == tuple(MESSAGES)
    for tools in ([{"name": "f"}], '[{"name": "f"}]'):
        with pytest.raises(
            UserError, match=rf"^--task\.path: a\.jsonl: column '{name}' offers tools to the assistant"
        ):
            chat(messages=MESSAGES, **{name: tools})


TOOLS = (
    [{"role": "user", "content": "q"}, {"role": "tool", "content": "4"}],
    [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}],
    [{"role": "user", "content": "q"}, {"role": "function", "content": "4"}],
)


@pytest.mark.parametrize("turns", TOOLS, ids=str)
def test_tool_turns_are_refused_with_row_and_turn(turns: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match=r"^--task\.path: a, row 3: turn 2 of 'messages' is a tool's turn, or calls"):
        chat_of("--task.path: a, row 3", {"messages": turns}, ("messages",))
    with pytest.raises(UserError, match="is a tool's"):
        chat(conversations=[*SHAREGPT, {"from": "observation", "value": "4"}])


BAD: dict[str, dict[str, Any]] = {
    "no assistant turn after a user's": {"messages": MESSAGES[:1]},
    "column 'completion' has no assistant turn, so nothing can be learned; remove the row": {
        "prompt": MESSAGES[:2],
        "completion": MESSAGES[:1],
    },
    "no assistant turn": {"messages": MESSAGES[1:]},
    "turn 1 of 'messages' is of role 'narrator'; allowed": {"messages": [{"role": "narrator", "content": "x"}]},
    "turn 2 of 'messages' has no text": {"messages": [MESSAGES[0], {"role": "assistant", "content": " "}]},
    "turn 1 of 'messages' holds something other than text": {
        "messages": [{"role": "user", "content": [{"type": "image"}]}]
    },
    "turn 1 of 'messages' is a text; allowed: an object with 'role' and 'content'": {"messages": ["hello"]},
    "column 'messages' holds a text; allowed: a list of turns": {"messages": "hello"},
    "column 'messages' holds nothing": {"messages": []},
    "column 'completion' has no text": {"prompt": "x", "completion": ""},
    "column 'prompt' holds an object; allowed: a text": {"prompt": {}, "completion": "x"},
    "column 'input' holds a number": {"instruction": "x", "input": 3, "output": "y"},
    "column 'text' holds a number; allowed: a text": {"text": 3},
    "column 'text' holds a broken character (half of a surrogate pair, '\\ud83d')": {"text": "a\ud83d"},
    "turn 1 of 'messages' holds a broken character": {"messages": [{"role": "user", "content": "\ud83d"}]},
    "turn 2 of 'messages' holds a broken character": {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "reasoning_content": "\ud83d"},
        ]
    },
    "column 'system' holds a number; allowed: a text": {"messages": MESSAGES, "system": 3},
    "turn 2 of 'conversations' has no 'value'": {"conversations": [SHAREGPT[0], {"from": "gpt", "text": "a"}]},
    "column 'history' has no text": {"instruction": "x", "output": "y", "history": [["p", " "]]},
    "turn 1 of 'messages' has no 'role'": {"messages": [{"role": ["user"], "content": "x"}]},
}


@pytest.mark.parametrize("words", BAD)
def test_a_row_that_cannot_be_learned_from_is_one_line(words: str) -> None:
    with pytest.raises(UserError) as caught:
        chat(**BAD[words])
    assert str(caught.value).startswith(W)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
