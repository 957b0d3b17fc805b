"""Puts a conversation through a chat template: which tokens the model reads, and which of them it learns.

    labels_t = id_t where token t belongs to an answer, else -100

A template may enclose each answer in `{% generation %}` marks. Without marks, the conversation is rendered up to an
assistant's turn, with the prompt for an answer, and again including the turn: what the second text adds to the first
is the answer. So the model learns to continue the very text that it is given when it is used. The token that ends the
turn is learned, too.
"""

import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.problems.tasks.labels import IGNORED
from autolora.problems.tasks.template_dates import DATE, has_date
from autolora.problems.tasks.template_refusals import RowRefused, TemplateRefused, row_refused

_MARKS, _COMMENT = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}"), re.compile(r"\{#.*?#\}", re.S)
# Words that no template writes by itself.
_PROBE = [{"role": "user", "content": "quagmire"}, {"role": "assistant", "content": "zeppelin"}]
_MISMATCH = "writes the beginning of a conversation in another way when more turns follow"
_UNPROMPTED = (
    "writes other text at the end of its prompt for an answer (add_generation_prompt) than before an answer in a "
    "conversation, such as <think> in only one of the two"
)
_TORN = "is used with a tokenizer that adds tokens to each piece of a conversation"
_EMPTY = "leaves out the text of a turn, whether it is given as a text or as a list of parts"
_ASTRAY = "does not show to which of several answers its marks belong"

Message = dict[str, str]
Run = tuple[int, int]


class Template:
    """The chat template of a tokenizer.

    `marked`: whether the template itself marks the answers. `end`: the token with which it ends an answer, None where
    that is plain text. It is often not the tokenizer's end of text: Gemma's is <end_of_turn>. `in_parts`: whether it
    reads the content of a turn as a list of parts, as those of many models for images do; None: whether it gets a text
    or a list, it leaves the words out.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.in_parts: bool | None = False
        self.in_parts = self._reads_parts()
        text = _COMMENT.sub("", template_of(tokenizer) or "")
        self.marked = bool(_MARKS.search(text)) and tokenizer.is_fast
        self.end = self._end()

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer: the end of text, and the template's end of a turn."""
        return list(dict.fromkeys([end_of_text(self.tokenizer), *([] if self.end is None else [self.end])]))

    @property
    def words(self) -> str:
        """What the user should know, to be shown behind the template's name; empty: there is nothing to tell."""
        endless = "it ends an answer with plain text: the model does not learn to stop" if self.end is None else ""
        dated = f"its date is always {DATE}, not the day's" if has_date(template_of(self.tokenizer)) else ""
        told = "; ".join(filter(None, (endless, dated)))
        return f" ({told})" if told else ""

    def render(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """The conversation as one text; with `prompt` up to where the assistant begins to write. Raises RowRefused."""
        return str(self._applied(messages, add_generation_prompt=prompt, tokenize=False))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of the conversation, which an answer continues. Raises RowRefused."""
        return self.ids(self.render(messages, prompt=True))

    def given(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages as the template is given them, with their contents as texts or as lists of parts."""
        if not self.in_parts:
            return [dict(message) for message in messages]
        return [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in messages]

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without those that the tokenizer would add."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def labelled(
        self, messages: Sequence[Message], learned: Collection[int] | None = None
    ) -> tuple[list[int], list[int]]:
        """Token ids of the conversation and their labels, on the answers whose numbers are in `learned` (None: all).

        Raises RowRefused, and TemplateRefused if the template does not show which tokens belong to an answer.
        """
        if self.in_parts is None:
            raise TemplateRefused(_EMPTY)
        chosen = answers(messages) if learned is None else learned
        ids, in_answer = (self._by_marks if self.marked else self._by_prefixes)(messages, chosen)
        in_answer[:1] = [False]  # no token predicts the first one
        return ids, [token if is_answer else IGNORED for token, is_answer in zip(ids, in_answer, strict=True)]

    def _by_marks(self, messages: Sequence[Message], learned: Collection[int]) -> tuple[list[int], list[bool]]:
        """Token ids, and whether each belongs to an answer to learn, by the template's own marks."""
        ids, runs = self._marked_runs(messages)
        if any(turn["role"] == "assistant" and number not in learned for number, turn in enumerate(messages)):
            runs = self._learned_runs(messages, learned, ids, runs)
        in_answer = [False] * len(ids)
        for start, stop in runs:
            # Some templates leave the end of the turn outside their marks: the model would never learn to stop.
            end = stop + (ids[stop : stop + 1] == [self.end])
            in_answer[start:end] = [True] * (end - start)
        return ids, in_answer

    def _marked_runs(self, messages: Sequence[Message]) -> tuple[list[int], list[Run]]:
        """Token ids, and where each run of marked tokens starts and stops."""
        found = self._applied(messages, return_dict=True, return_assistant_tokens_mask=True)
        marked = [False, *map(bool, found["assistant_masks"]), False]
        bounds = [i for i, (before, now) in enumerate(pairwise(marked)) if before != now]
        return list(found["input_ids"]), list(zip(bounds[::2], bounds[1::2], strict=True))

    def _learned_runs(
        self, messages: Sequence[Message], learned: Collection[int], ids: Sequence[int], runs: Sequence[Run]
    ) -> list[Run]:
        """The runs of marked tokens that belong to the answers `learned`.

        A turn may have no marks, or several, as around thoughts and text, or other ones when more turns follow. So
        the whole conversation tells: runs before a user's words belong to the answers before them. Raises
        TemplateRefused where answers follow each other directly, only some of them are learned, and each has not
        exactly one run.
        """
        chosen: list[Run] = []
        begin = 0
        for turns, end in self._stretches(messages, ids):
            own, wanted = [run for run in runs if begin <= run[0] < end], [turn in learned for turn in turns]
            begin = end
            if any(wanted) and not all(wanted) and len(own) != len(turns):
                raise TemplateRefused(_ASTRAY)
            chosen += own if all(wanted) else [run for run, want in zip(own, wanted, strict=False) if want]
        return chosen

    def _stretches(self, messages: Sequence[Message], ids: Sequence[int]) -> list[tuple[list[int], int]]:
        """The numbers of the answers between two users' turns, and the place in `ids` before which they end.

        That place is where the tokens change when the words of the next user's turn do. Raises TemplateRefused for a
        template that leaves these words out.
        """
        found: list[tuple[list[int], int]] = []
        turns: list[int] = []
        for number, turn in enumerate(messages):
            if turn["role"] == "assistant":
                turns.append(number)
            elif turn["role"] == "user" and turns:
                # In the middle of the words, as templates look at how they begin and end.
                middle = len(turn["content"]) // 2
                content = f"{turn['content'][:middle]}{_PROBE[0]['content']}{turn['content'][middle:]}"
                changed = {**turn, "content": content}
                other, _ = self._marked_runs([*messages[:number], changed, *messages[number + 1 :]])
                place = next((i for i, (a, b) in enumerate(zip(ids, other, strict=False)) if a != b), None)
                if place is None or (found and place < found[-1][1]):
                    raise TemplateRefused(_ASTRAY)
                found.append((turns, place))
                turns = []
        return [*found, (turns, len(ids))]

    def _by_prefixes(self, messages: Sequence[Message], learned: Collection[int]) -> tuple[list[int], list[bool]]:
        """As `_by_marks`, but by what each answer adds to the text before it. Raises TemplateRefused."""
        whole, cuts = self.render(messages), [0]
        for number in sorted(learned):
            before = self.render(messages[:number], prompt=True)
            after = self.render(messages[: number + 1])
            if not after.startswith(before):
                raise TemplateRefused(_UNPROMPTED)
            if not whole.startswith(after):
                raise TemplateRefused(_MISMATCH)
            cuts += [len(before), len(after)]
        pieces = self._pieces(whole, [*cuts, len(whole)])
        in_answer = [number % 2 == 1 for number, piece in enumerate(pieces) for _ in piece]
        return [token for piece in pieces for token in piece], in_answer

    def _pieces(self, whole: str, cuts: Sequence[int]) -> list[list[int]]:
        """The tokens of each piece of a text that is cut at `cuts`.

        They are the tokens of the whole text, unless a token crosses a cut, as may happen if an answer begins with a
        line break. Then each piece is tokenised by itself, as the prompt is when the model is used. Raises
        TemplateRefused for a tokenizer that adds tokens to each piece.
        """
        ids = self.ids(whole)
        heads = [*(self.ids(whole[:cut]) for cut in cuts[:-1]), ids]
        if all(ids[: len(head)] == head for head in heads):
            return [ids[len(a) : len(b)] for a, b in pairwise(heads)]
        pieces = [self.ids(whole[a:b]) for a, b in pairwise(cuts)]
        joined = [token for piece in pieces for token in piece]
        if self.tokenizer.decode(joined) != self.tokenizer.decode(ids):
            raise TemplateRefused(_TORN)
        return pieces

    def _reads_parts(self) -> bool | None:
        """`in_parts`, by an attempt; False for a template that refuses both forms, as its refusals tell more."""
        refused = False
        for in_parts in (False, True):
            self.in_parts = in_parts
            try:
                text = self.render(_PROBE)
            except RowRefused:
                refused = True
                continue
            if all(turn["content"] in text for turn in _PROBE):
                return in_parts
        return False if refused else None

    def _end(self) -> int | None:
        """The first special or added token that the template writes behind an answer; None if it writes none."""
        try:
            before, whole = self.render(_PROBE[:1], prompt=True), self.render(_PROBE)
        except RowRefused:
            return None
        answer = whole[len(before) :] if whole.startswith(before) else whole
        after = answer.rpartition(_PROBE[1]["content"])[2]
        added = {*self.tokenizer.get_added_vocab().values(), *self.tokenizer.all_special_ids}
        return next((token for token in self.ids(after) if token in added), None)

    def _applied(self, messages: Sequence[Message], **options: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(self.given(messages), **options)
        except Exception as error:  # a template is a program: it may raise anything, such as ZeroDivisionError
            raise row_refused(error) from error


def answers(messages: Sequence[Message]) -> list[int]:
    """The numbers of the assistant turns that answer something: those after the first user's turn."""
    roles = [message["role"] for message in messages]
    first = roles.index("user") if "user" in roles else len(roles)
    return [number for number, role in enumerate(roles) if role == "assistant" and number > first]


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a text. Raises UserError for a tokenizer without one."""
    if tokenizer.eos_token_id is None:
        raise UserError(
            "--model.name: its tokenizer has no end-of-text token; generation needs a causal model, whose "
            "tokenizer has one"
        )
    return int(tokenizer.eos_token_id)


def template_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The tokenizer's chat template; of several the default one; None where it has none."""
    found = tokenizer.chat_template
    return found.get("default") if isinstance(found, dict) else found
