"""How a tokenizer is given a sentence that is already divided into words."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_PROBE = ("the", "U.S.", "dog")
"""Words that show two faults of tokenizers that ignore the option: they write `theU.S.dog` or `the U . S . dog`."""


def before_words(tokenizer: PreTrainedTokenizerBase) -> str:
    """A blank if each word must begin with one; else an empty text.

    Without it, tokenizers that ignore the option `add_prefix_space` (ModernBERT's and Gemma's glue the words together,
    Qwen2's divides them at each sign) would make other tokens than those of the text."""
    text = " ".join(_PROBE)
    if _written(tokenizer, _PROBE) != text and _written(tokenizer, [f" {word}" for word in _PROBE]) == text:
        return " "
    return ""


def _written(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> str:
    """The text of the words' tokens."""
    ids = tokenizer(list(words), is_split_into_words=True, add_special_tokens=False)["input_ids"]
    text = tokenizer.decode(ids)
    return text.strip() if isinstance(text, str) else ""
