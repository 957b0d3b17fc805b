"""Which tokenizers need a blank before each word of a sentence that is already divided."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from autolora.problems.tasks.split_words import before_words


def byte_level(prefix: bool) -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def of_words() -> PreTrainedTokenizerFast:
    """Lower case, and a sign is a word of its own, as BERT's: no form of the words gives the text back."""
    vocabulary = {word: number for number, word in enumerate(["<unk>", "the", "u", ".", "s", "dog"])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


@pytest.mark.parametrize(
    ("tokenizer", "before"),
    [(byte_level(prefix=False), " "), (byte_level(prefix=True), ""), (of_words(), "")],
    ids=["ignores the option", "applies it", "words"],
)
def test_a_blank_is_put_where_the_tokenizer_would_glue_the_words(
    tokenizer: PreTrainedTokenizerFast, before: str
) -> None:
    assert before_words(tokenizer) == before
