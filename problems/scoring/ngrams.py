"""The tokens of the E2E script's BLEU and NIST, and n-grams with their clipped matches for NIST."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

Tokens = Sequence[str]
NGram = tuple[str, ...]


def mteval_tokens(text: str) -> list[str]:
    """Tokens of mteval-v13a, case-insensitive: split, then lower-cased; an empty text gives one empty token.

    The empty token is what the E2E script's Python port makes of an empty line, and it counts in the length there.
    Source: tuetschek/e2e-metrics, metrics/pymteval.py; sacrebleu's 13a tokeniser splits the same way.
    """
    return [token.lower() for token in _mteval_tokenizer()(text).split(" ")]


@lru_cache(maxsize=1)
def _mteval_tokenizer() -> Any:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()


def count_ngrams(tokens: Tokens, n: int) -> Counter[NGram]:
    """How often each n-gram occurs."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def clipped_matches(hyp: Tokens, refs: Sequence[Tokens], n: int) -> Counter[NGram]:
    """The count of each n-gram in hyp, but at most its largest count in a single reference."""
    most: Counter[NGram] = Counter()
    for ref in refs:
        most |= count_ngrams(ref, n)
    return count_ngrams(hyp, n) & most
