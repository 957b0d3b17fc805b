"""Each format of rows as conversations: what is given, what is learned, what is left out."""

from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.tasks import Chat
from autolora.problems.tasks.formats import (
    FORMATS,
    Conversation,
    by_reference,
    by_source,
    format_of,
)

MESSAGES = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
EVERY = {
    "messages": MESSAGES,
    "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    "prompt": "q",
    "completion": "a",
    "instruction": "q",
    "input": "",
    "output": "a",
    "text": "q a",
}


def chat(**settings: Any) -> Chat:
    return Chat(type="chat", path="a.jsonl", **settings)


def read(row: dict[str, Any], **settings: Any) -> Conversation:
    form = format_of(chat(**settings), list(row))
    return form.read(row, *form.columns)


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def test_the_first_format_whose_columns_are_there_is_taken_unless_one_is_named() -> None:
    row: dict[str, Any] = dict(EVERY)
    for name in ("messages", "sharegpt", "completion", "alpaca", "text"):
        form = format_of(chat(), list(row))
        assert form == FORMATS[name] == format_of(chat(format=name), list(EVERY))
        found = form.read(row, *form.columns)
        assert (
            found.text == "q a"
            if name == "text"
            else (found.messages, found.learned) == (MESSAGES, [1])
        )
        row = {column: value for column, value in row.items() if column not in form.columns}
    with pytest.raises(
        UserError, match=r"a\.jsonl has the columns question, answer; chat reads messages or conv"
    ):
        format_of(chat(), ["question", "answer"])
    with pytest.raises(UserError, match=r"has the columns question; pairs reads question, answer"):
        format_of(chat(text_columns=["question"], label_column="answer"), ["question"])


def test_what_the_template_reads_is_kept_and_what_arrow_filled_in_is_not() -> None:
    """Thoughts and tool calls, whose arguments OpenAI gives as JSON; every row has the keys of all
    rows, as null."""
    called = {"function": {"name": "f", "arguments": '{"x": 1}'}, "id": None}
    given = [
        {"role": "system", "content": " "},
        {"role": "developer", "content": "s", "tool_calls": None},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "thinking": "hm", "tool_calls": [called]},
        {"role": "tool", "content": "3", "name": "f"},
        {"role": "assistant", "content": "c"},
    ]
    found = read(
        {
            "messages": given,
            "tools": '[{"function": {"name": "f"}}]',
            "chat_template_kwargs": {"x": 1},
        }
    )
    assert found.messages == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "ab"},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
        },
        {"role": "tool", "content": "3", "name": "f"},
        {"role": "assistant", "content": "c"},
    ]
    assert found.learned == [2, 4]
    assert found.options == {"tools": [{"function": {"name": "f"}}], "x": 1}
    assert found.prompt == found.messages[:4]
    assert Conversation.of(found.stored()) == found


def test_greetings_and_turns_of_weight_0_are_not_learned() -> None:
    greeting = {"role": "assistant", "content": "Hello!"}
    again = [*turns("r"), {**MESSAGES[1], "train": False}]
    assert read({"messages": [greeting, *MESSAGES, *again]}).learned == [2]
    assert read(
        {"messages": [*turns("q"), {**MESSAGES[1], "weight": 0}, *turns("r", "b")]}
    ).learned == [3]


def test_of_a_completion_and_an_output_no_earlier_answer_is_learned() -> None:
    asked = read(
        {"prompt": [*MESSAGES, *turns("r")], "completion": [{"role": "assistant", "content": "b"}]}
    )
    assert asked.learned == [3]
    further = {
        "prompt": MESSAGES,
        "completion": [{"role": "assistant", "content": "b"}],
        "system": "Be short.",
    }
    assert read(further).learned == [3]
    row = {"instruction": "Add.", "input": "1, 2", "output": "3", "system": "Be short."}
    found = read(row)
    assert found.messages == [
        {"role": "system", "content": "Be short."},
        *turns("Add.\n\n1, 2", "3"),
    ]
    assert found.learned == [2]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": MESSAGES[:1]},
        {"messages": MESSAGES[1:]},
        {"messages": turns("q", " ")},
        {"messages": "hello"},
        {"messages": []},
        {"messages": [{"role": "narrator", "content": "x"}, *MESSAGES]},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}, MESSAGES[1]]},
        {"prompt": "q", "completion": ""},
        {"instruction": "q", "output": None},
        {"text": " "},
    ],
    ids=str,
)
def test_a_row_that_teaches_nothing_raises_what_the_task_counts(row: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        read(row)


def test_pairs_have_one_target_or_a_list_of_them() -> None:
    one = read({"source": "s", "target": "t "}, format="pairs")
    other = read({"a": "s", "b": ["u", "v"]}, text_columns=["a"], label_column="b")
    assert (one.messages, one.references) == (turns("s", "t"), ["t "])
    (record,) = by_source([one, other])
    assert record.references == ["t ", "u", "v"]
    assert [x.messages[1]["content"] for x in by_reference([record])] == ["t", "u", "v"]


def test_a_meaning_representation_becomes_the_recipes_line() -> None:
    meaning = (
        "name[The Mill], eatType[coffee shop], priceRange[£20-25], rating[5 out of 5], "
        "familyFriendly[yes]"
    )
    found = read({"meaning_representation": meaning, "human_reference": "x"}, format="e2e")
    assert found.messages[0]["content"] == (
        "name : The Mill | Type : coffee shop | price : £20-25 | rating : 5 out of 5 | family "
        "friendly : yes"
    )
    with pytest.raises(ValueError, match="is empty"):
        read({"meaning_representation": "The Mill", "human_reference": "x"}, format="e2e")


def test_webnlg_in_the_challenges_columns_and_in_the_hubs() -> None:
    triples = ["A_b | c | D", "A | b | C D"]
    texts = [("x", "good"), ("y", "bad"), ("z", "good")]
    ours = {"modifiedtripleset": triples, "lexs": [{"lex": t, "comment": c} for t, c in texts]}
    hub = {
        "modified_triple_sets": {"mtriple_set": [triples]},
        "lex": {"text": [t for t, _ in texts], "comment": [c for _, c in texts]},
    }
    found = read(ours, format="webnlg")
    assert found == read(hub, format="webnlg")
    assert found.messages[0]["content"] == "A_b : c : D | A : b : C D"
    assert found.references == ["x", "z"]
    only_bad = ours | {"lexs": [{"lex": "y", "comment": "bad"}]}
    assert read(only_bad, format="webnlg").references == ["y"]
