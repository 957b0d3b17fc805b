"""Forms of the prompt: how a source and its answer become tokens, plainly or through the model's chat template."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from transformers import PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.problems.tasks.labels import IGNORED
from autolora.problems.tasks.template_refusals import RowRefused, TemplateRefused, refusal
from autolora.problems.tasks.templates import Template, end_of_text


class Lost(NamedTuple):
    """What a row lost as it was too long; more than one may hold."""

    end_of_source: bool
    whole_source: bool
    end_of_answer: bool


class Prompt(ABC):
    """A form of the prompt.

    `head`, `tail`: how many of a prompt's tokens come before the source, and after it; they are never cut. `ends`: the
    tokens that end an answer.
    """

    words: str
    head: int
    tail: int
    ends: list[int]

    @abstractmethod
    def ids(self, source: str) -> list[int]:
        """The token ids of the prompt for a source, which the answer continues."""

    @abstractmethod
    def _parts(self, source: str, target: str) -> tuple[list[int], list[int], list[int]]:
        """Token ids of the prompt, those of the answer with its end, and the labels of the answer."""

    def labelled(self, source: str, target: str, most: int) -> tuple[list[int], list[int], Lost]:
        """Token ids of prompt and answer (no more than `most`), their labels, and what was cut off.

        The source loses its end first; if that is not enough, the answer loses its end, and with it the token that
        ends it: a model that learned to end in the middle would end its answers there. Raises UserError if `most`
        leaves no room for a token of the answer.
        """
        start, answer, answer_labels = self._parts(source, target)
        room = most - self.head - self.tail
        if room < 1:
            raise self._too_short(most)
        kept = self.cut(start, most - min(len(answer), room))
        missing, left = len(start) - len(kept), len(kept) - self.head - self.tail
        lost = Lost(missing > 0 and left > 0, missing > 0 and left <= 0, len(answer) > room)
        return kept + answer[:room], [IGNORED] * len(kept) + answer_labels[:room], lost

    def cut(self, ids: list[int], length: int) -> list[int]:
        """A prompt of at most `length` tokens: the source loses its last tokens, and what stands around it stays.

        Raises UserError if `length` has no room for what stands around the source.
        """
        if len(ids) <= length:
            return ids
        if length < self.head + self.tail:
            raise self._too_short(length)
        return [*ids[: length - self.tail], *ids[len(ids) - self.tail :]]

    def _too_short(self, length: int) -> UserError:
        around = self.head + self.tail
        return UserError(
            f"--task.max_length: {length} is too short for the prompt, which takes {around} tokens around the source; "
            f"allowed: {around + 1} or more"
        )


class PlainPrompt(Prompt):
    """The source and a separator: the beginning-of-text token, or the end-of-text token if the tokenizer has none."""

    words = "plain, the source and a token that separates it from the answer"
    head = 0
    tail = 1

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        begin, end = tokenizer.bos_token_id, end_of_text(tokenizer)
        self.tokenizer: Callable[..., Any] = tokenizer
        self.separator = end if begin is None else int(begin)
        self.ends = [end]

    def ids(self, source: str) -> list[int]:
        return [*self._ids(source), self.separator]

    def _parts(self, source: str, target: str) -> tuple[list[int], list[int], list[int]]:
        answer = [*self._ids(" " + target.strip()), *self.ends]
        return self.ids(source), answer, answer

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


class ChatPrompt(Prompt):
    """The source as the user's turn of a chat template, the answer as the assistant's.

    `file`: the file of the template (task.chat_template); None: the model's own template.
    """

    # Two sources without a common letter: the tokens with which both prompts begin and end come from the template.
    _TRIED: ClassVar[Sequence[str]] = ("a", "7")

    def __init__(self, tokenizer: PreTrainedTokenizerBase, file: str | None) -> None:
        self.template = Template(tokenizer)
        self.file = file
        self.words = f"{file or 'the chat template of the model'}, the source as the user's turn{self.template.words}"
        self.ends = self.template.ends
        a, b = (self.ids(text) for text in self._TRIED)
        self.head, self.tail = _in_common(a, b), _in_common(a[::-1], b[::-1])

    def ids(self, source: str) -> list[int]:
        try:
            return self.template.prompt([{"role": "user", "content": source}])
        except RowRefused as error:
            raise self._refusal(error, source) from error

    def _parts(self, source: str, target: str) -> tuple[list[int], list[int], list[int]]:
        turns = [{"role": "user", "content": source}, {"role": "assistant", "content": target.strip()}]
        try:
            ids, labels = self.template.labelled(turns)
        except (RowRefused, TemplateRefused) as error:
            raise self._refusal(error, source) from error
        learned = [i for i, label in enumerate(labels) if label != IGNORED]
        if not learned:
            raise self._refusal(TemplateRefused("marks no token of an answer"), source)
        return ids[: learned[0]], ids[learned[0] : learned[-1] + 1], labels[learned[0] : learned[-1] + 1]

    def _refusal(self, error: RowRefused | TemplateRefused, source: str) -> UserError:
        return refusal(error, f"source {source[:40]!r}", self.file, self.template.tokenizer)


def _in_common(a: list[int], b: list[int]) -> int:
    """With how many equal tokens two lists begin; 0 if one begins with the whole other."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
