"""Rows of a data set as conversations. A format is the columns of a row and the function that reads
them.

    messages      messages: {"role", "content"}, with tool calls, thoughts, and whatever else the
                  template reads
    sharegpt      conversations: {"from", "value"}
    completion    prompt, completion: texts or messages; only the completion is learned
    alpaca        instruction, input, output; only the output is learned
    text          text: one text, all of it learned, without a template
    pairs         source, target (a text, or a list of them)
    e2e, webnlg   the records of these data sets, in one line as in LoRA's recipe
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from autolora.configs.errors import UserError
from autolora.configs.tasks import Chat
from autolora.problems.tasks.template import Message

Row = Mapping[str, Any]

_ROLES = {role: role for role in ("system", "user", "assistant", "tool")} | {
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "observation": "tool",
}
_ATTRIBUTE = re.compile(r"\s*([^\[\],]+)\[([^\]]*)\]")
_E2E_NAMES = {"eatType": "Type", "priceRange": "price", "familyFriendly": "family friendly"}
# The hub puts several test files of WebNLG into one split (column test_category). Systems are
# scored on these files.
_SCORED = ("testdata_with_lex", "rdf-to-text-generation-test-data-with-refs")


@dataclass(frozen=True)
class Conversation:
    """A conversation, the numbers of the messages that are learned, and what else the template is
    given (tools).

    `references`: the texts that people wrote for the last learned message. `text`: a plain text
    instead of messages.
    """

    messages: Sequence[Message] = ()
    learned: Sequence[int] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    references: Sequence[str] = ()
    text: str | None = None

    @property
    def prompt(self) -> Sequence[Message]:
        """The messages before the last one that is learned."""
        return self.messages[: self.learned[-1]] if self.learned else []

    @property
    def key(self) -> str:
        """A digest of what comes before the first answer: rows that share any prompt share this
        one."""
        source = self.text
        if source is None:
            source = json.dumps(self.messages[: _answers(self.messages)[0]], ensure_ascii=False)
        return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def stored(self) -> dict[str, str]:
        """The columns `chat`, which is all of it as JSON, and `source`, its key."""
        return {"chat": json.dumps(vars(self), ensure_ascii=False), "source": self.key}

    @classmethod
    def of(cls, row: Row) -> "Conversation":
        """The conversation in the column `chat` of a row."""
        return cls(**json.loads(row["chat"]))


class Format(NamedTuple):
    """The columns of a format and the function that reads them from a row.

    The function raises ValueError, TypeError, KeyError or AttributeError for a row from which
    nothing can be learned.
    """

    columns: tuple[str, ...]
    read: Callable[..., Conversation]


def format_of(config: Chat, columns: Sequence[str]) -> Format:
    """The format that the settings name, else the first whose columns are there. Raises UserError,
    naming them."""
    pairs = (config.text_columns or ["source"])[0], config.label_column or "target"
    known = FORMATS | {"pairs": Format(pairs, _pair)}
    if "modified_triple_sets" in columns:
        known["webnlg"] = Format(("modified_triple_sets", "lex"), _webnlg_of_hub)
    named = config.format or ("pairs" if config.of_records else None)
    names = [named] if named else _FOUND
    wanted = [known[name] for name in names]
    for form in wanted:
        if set(form.columns) <= set(columns):
            return form
    allowed = " or ".join(", ".join(form.columns) for form in wanted)
    raise UserError(
        f"--task.format: {config.path} has the columns {', '.join(columns)}; {named or 'chat'} "
        f"reads {allowed}"
    )


def by_source(found: Iterable[Conversation]) -> list[Conversation]:
    """One conversation for each source, with the references of all, in the order in which the
    sources first occur."""
    records: dict[str, Conversation] = {}
    for one in found:
        known = records.get(one.key)
        records[one.key] = (
            replace(known, references=[*known.references, *one.references]) if known else one
        )
    return list(records.values())


def by_reference(records: Iterable[Conversation]) -> list[Conversation]:
    """One conversation for each reference of each record."""
    return [
        replace(x, messages=[*x.prompt, _said("assistant", text)])
        for x in records
        for text in x.references
    ]


def _conversation(messages: Sequence[Message], row: Row, first: int = 0) -> Conversation:
    """The conversation of a row with these messages, of which answers from number `first` on are
    learned."""
    if row.get("system") and messages[0]["role"] != "system":
        messages = [_said("system", row["system"]), *messages]
        first = first + 1
    learned = [
        number for number in _answers(messages) if number >= first and _is_learned(messages[number])
    ]
    if not learned:
        raise ValueError("no assistant turn after a user's that is to be learned and has a text")
    tools = row.get("tools") or None
    tools = json.loads(tools) if isinstance(tools, str) else tools
    options = _filled({**(row.get("chat_template_kwargs") or {}), "tools": tools})
    return Conversation(messages, learned, options, [messages[learned[-1]]["content"]])


def _answers(messages: Sequence[Message]) -> list[int]:
    """The numbers of the assistant turns after the first user's."""
    roles = [turn["role"] for turn in messages]
    return [
        number
        for number, role in enumerate(roles)
        if role == "assistant" and "user" in roles[:number]
    ]


def _is_learned(turn: Message) -> bool:
    """Whether a turn says something, and OpenAI's key `weight` and Axolotl's `train` do not leave
    it out."""
    says = turn["content"].strip() or turn.get("tool_calls")
    return bool(says) and 0 not in (turn.get("weight", 1), turn.get("train", 1))


def _messages(turns: Sequence[Row]) -> list[Message]:
    """The turns as a template reads them: roles by their usual names, a text in parts as one, no
    empty system turn."""
    found = [_message(_filled(turn)) for turn in turns]
    return [turn for turn in found if turn["role"] != "system" or turn["content"].strip()]


def _message(turn: dict[str, Any]) -> Message:
    role = turn.pop("from", None) or turn.pop("role")
    content = turn.pop("value", None) or turn.pop("content", "")
    if role not in _ROLES:
        raise ValueError(f"the role {role!r} is none of {', '.join(_ROLES)}")
    if not isinstance(content, str):
        content = "".join(part if isinstance(part, str) else part["text"] for part in content)
    # OpenAI gives the arguments as JSON, templates write an object
    for call in turn.get("tool_calls", ()):
        called = call.get("function", call)
        if isinstance(called.get("arguments"), str):
            called["arguments"] = json.loads(called["arguments"])
    return {"role": _ROLES[role], "content": content, **turn}


def _filled(value: Any) -> Any:
    """The value without the keys that are null: Arrow gives every row the keys of all rows."""
    if isinstance(value, Mapping):
        return {key: _filled(inner) for key, inner in value.items() if inner is not None}
    return [_filled(inner) for inner in value] if isinstance(value, list) else value


def _said(role: str, text: str) -> Message:
    return {"role": role, "content": text.strip() if role == "assistant" else text}


def _of_messages(row: Row, column: str) -> Conversation:
    return _conversation(_messages(row[column]), row)


def _completion(row: Row, prompt: str, completion: str) -> Conversation:
    asked = _messages(_turns(row[prompt], "user"))
    answered = _messages(_turns(row[completion], "assistant"))
    return _conversation([*asked, *answered], row, len(asked))


def _turns(value: Any, role: str) -> Any:
    """A column's messages; a text is one message of this role."""
    return [{"role": role, "content": value}] if isinstance(value, str) else value


def _alpaca(row: Row, instruction: str, output: str) -> Conversation:
    task = "\n\n".join(text for text in (row[instruction], row.get("input")) if text)
    return _conversation([_said("user", task), _said("assistant", row[output])], row)


def _text(row: Row, column: str) -> Conversation:
    if not row[column].strip():
        raise ValueError("the text is empty")
    return Conversation(text=row[column])


def _record(source: str, references: Sequence[str]) -> Conversation:
    if not (source.strip() and references and all(text.strip() for text in references)):
        raise ValueError("the source or a text is empty")
    return Conversation(
        [_said("user", source), _said("assistant", references[0])], [1], {}, references
    )


def _pair(row: Row, source: str, target: str) -> Conversation:
    return _record(
        row[source], [row[target]] if isinstance(row[target], str) else list(row[target])
    )


def _e2e(row: Row, meaning: str, reference: str) -> Conversation:
    """name[Blue Spice], eatType[pub] -> name : Blue Spice | Type : pub"""
    found = ((name.strip(), value) for name, value in _ATTRIBUTE.findall(row[meaning]))
    return _record(
        " | ".join(f"{_E2E_NAMES.get(name, name)} : {value}" for name, value in found),
        [row[reference]],
    )


def _webnlg(row: Row, triples: str, texts: str) -> Conversation:
    return _triples(
        row[triples], [(text["lex"], text.get("comment", "good")) for text in row[texts]]
    )


def _webnlg_of_hub(row: Row, triples: str, texts: str) -> Conversation:
    (found,) = row[triples]["mtriple_set"]
    return _triples(found, list(zip(row[texts]["text"], row[texts]["comment"], strict=True)))


def _triples(triples: Sequence[str], texts: Sequence[tuple[str, str]]) -> Conversation:
    """Aarhus | leaderName | Jacob -> Aarhus : leaderName : Jacob, with the texts that are marked
    good, else all."""
    source = " | ".join(
        " : ".join(part.strip() for part in triple.split(" | ")) for triple in triples
    )
    good = [text for text, comment in texts if comment == "good"] or [text for text, _ in texts]
    return _record(source, good)


FORMATS = {
    "messages": Format(("messages",), _of_messages),
    "sharegpt": Format(("conversations",), _of_messages),
    "completion": Format(("prompt", "completion"), _completion),
    "alpaca": Format(("instruction", "output"), _alpaca),
    "text": Format(("text",), _text),
    "pairs": Format(("source", "target"), _pair),
    "e2e": Format(("meaning_representation", "human_reference"), _e2e),
    "webnlg": Format(("modifiedtripleset", "lexs"), _webnlg),
}
_FOUND = ("messages", "sharegpt", "completion", "alpaca", "text")
"""The formats that need not be named, in the order in which they are looked for."""


def is_scored(row: Row) -> bool:
    """Whether a row of the hub's WebNLG is of the test file on which systems are scored."""
    return str(row.get("test_category")).startswith(_SCORED)
