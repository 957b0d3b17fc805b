"""The metrics of written texts: those of the E2E NLG Challenge and of the WebNLG Challenge 2017."""

import math
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from importlib.util import find_spec
from itertools import zip_longest
from operator import or_

from autolora.configs.errors import UserError
from autolora.configs.tasks import OFFICIAL

# the last two are Python, but of the tokens of Stanford's PTB tokeniser
_OF_JAVA = ("METEOR", "ROUGE_L", "CIDEr")
_NIST_ORDER = 5
# NIST's length penalty is one half when the output has two thirds of the references' mean length.
_BETA = math.log(0.5) / math.log(1.5) ** 2
_MOST_REFERENCES = 3  # WebNLG's scripts use no more, in the order of the data

Texts = Sequence[str]


def require(kind: str, metrics: Texts) -> None:
    """Raises UserError if these metrics of e2e or webnlg need a package or Java that is not here.

    To be asked before a search, as the texts are written after hours of training.
    """
    of_java = [name for name in metrics if name in _OF_JAVA]
    packages = {"pycocoevalcap": of_java, "text_unidecode": metrics if kind == "webnlg" else ()}
    for package, names in packages.items():
        if names and find_spec(package) is None:
            raise UserError(
                f"--task.metrics: {', '.join(names)} of {kind} cannot be computed without the "
                f"package {package}; start with `uv run --extra scoring`, or: pip install "
                "pycocoevalcap==1.2 text-unidecode"
            )
    # By running it: macOS has a `java` that only says that there is none.
    if of_java and subprocess.run("java -version", shell=True, capture_output=True).returncode:
        raise UserError(
            f"--task.metrics: {', '.join(of_java)} of {kind} cannot be computed without Java "
            "on the PATH (Debian: default-jre-headless); install it, or choose other metrics"
        )


def score_e2e(
    hyps: Texts, refs: Sequence[Texts], metrics: Texts = OFFICIAL["e2e"]
) -> dict[str, float]:
    """BLEU, NIST, METEOR, ROUGE_L, CIDEr of a whole test set, as the challenge's script prints
    them.

    hyps: raw text, one per item; refs: the raw references of each item, one or more. BLEU, METEOR
    and ROUGE_L from 0 to 1, NIST and CIDEr from 0 upwards (CIDEr at most 10, and only for a whole
    set: its weights come from the set). BLEU and NIST: mteval-v13a, case-insensitive; the others:
    MS-COCO's caption scripts, on PTB tokens. Source: tuetschek/e2e-metrics, measure_scores.py -p.
    """
    scores: dict[str, float] = {}
    if "BLEU" in metrics:
        from sacrebleu.metrics.bleu import BLEU

        # The script's own lower bound where no sequence of n words is right; sacrebleu's default
        # would smooth.
        bleu = BLEU(lowercase=True, smooth_method="floor", smooth_value=1e-15, force=True)
        scores["BLEU"] = bleu.corpus_score(hyps, list(zip_longest(*refs))).score / 100
    if "NIST" in metrics:
        scores["NIST"] = nist(hyps, refs)
    if set(metrics) & set(_OF_JAVA):
        scores |= _caption_scores(hyps, refs, metrics)
    return scores


def nist(hyps: Texts, refs: Sequence[Texts]) -> float:
    """NIST (Doddington 2002), 0 upwards: mteval-v13a tokens, case-insensitive, n = 1..5, any number
    of references.

    Information weights come from all references of all items. A match counts at most as often as in
    the one reference that has it most often. The length penalty compares the total length with the
    sum of each item's mean reference length. nltk's corpus_nist weighs by one reference per item:
    6.22 where the script gives 7.79.
    """
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    tokenize = Tokenizer13a()
    right = Counter[tuple[str, ...]]()
    wanted = Counter[tuple[str, ...]]()
    given = Counter[tuple[str, ...]]()
    mean_length = 0.0
    for hyp, item_refs in zip(hyps, refs, strict=True):
        output, *references = [
            _ngrams(tokenize(text).lower().split()) for text in (hyp, *item_refs)
        ]
        given.update(output)
        right.update(output & reduce(or_, references))
        for reference in references:
            wanted.update(reference)
            mean_length += reference[()] / len(references)
    if not given[()]:
        return 0.0
    totals = [
        sum(times for ngram, times in given.items() if len(ngram) == n)
        for n in range(_NIST_ORDER + 1)
    ]
    # Bits of an n-gram: log2(how often its first n - 1 words occur / how often it occurs).
    score = sum(
        times * math.log2(wanted[ngram[:-1]] / wanted[ngram]) / totals[len(ngram)]
        for ngram, times in right.items()
        if ngram
    )
    return score * math.exp(_BETA * math.log(min(1.0, given[()] / mean_length)) ** 2)


def _ngrams(words: list[str]) -> Counter[tuple[str, ...]]:
    """How often each sequence of at most five words occurs; under () the number of words."""
    found = Counter(
        tuple(words[i : i + n])
        for n in range(1, _NIST_ORDER + 1)
        for i in range(len(words) - n + 1)
    )
    found[()] = len(words)
    return found


def _caption_scores(hyps: Texts, refs: Sequence[Texts], metrics: Texts) -> dict[str, float]:
    """The metrics of MS-COCO's caption scripts, on PTB tokens: METEOR 1.5 `-l en -norm`, ROUGE_L,
    CIDEr-D."""
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    # Stanford's tokeniser also begins a line at odd line ends inside of a text, which would shift
    # all texts after it.
    def tokenized(texts_of_items: Sequence[Sequence[str]]) -> dict[int, list[str]]:
        captions = {}
        for item, texts in enumerate(texts_of_items):
            captions[item] = [{"caption": " ".join(text.split())} for text in texts]
        tokens: dict[int, list[str]] = PTBTokenizer().tokenize(captions)
        return tokens

    references = tokenized(refs)
    outputs = tokenized([[hyp] for hyp in hyps])
    scorers = {"METEOR": Meteor, "ROUGE_L": Rouge, "CIDEr": Cider}
    return {
        name: float(scorer().compute_score(references, outputs)[0])
        for name, scorer in scorers.items()
        if name in metrics
    }


def score_webnlg(
    hyps: Texts, refs: Sequence[Texts], metrics: Texts = OFFICIAL["webnlg"]
) -> dict[str, float]:
    """BLEU, METEOR, TER of a whole test set, as the challenge's scripts print them.

    hyps: one text per item; refs: the references of each item in the data's order, of which three
    count. Raw texts and texts in the challenge's form (tokenised, lower case, ASCII) give the same
    scores.

    * BLEU, 0 to 100: multi-bleu.perl -lc; missing references count as references of length 0, as in
      the scripts.
    * METEOR, 0 to 1: 1.5, `-l en -norm -r 3`.
    * TER, 0 upwards (a fraction): all edits over the summed mean reference lengths, by sacrebleu,
      which differs from tercom by up to 0.4 %.

    Not the numbers of LoRA's WebNLG table: those come from GenerationEval (6 references, TER as a
    mean over items). Source: gitlab.com/shimorina/webnlg-automatic-evaluation (evaluation.py and
    its .sh files).
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.ter import TER

    outputs = [clean_hypothesis(hyp) for hyp in hyps]
    references = [
        [clean_reference(ref) for ref in item_refs[:_MOST_REFERENCES]] for item_refs in refs
    ]
    scores: dict[str, float] = {}
    if "BLEU" in metrics:
        bleu = BLEU(tokenize="none", smooth_method="none", force=True)
        scores["BLEU"] = bleu.corpus_score(
            outputs, list(zip_longest(*references, fillvalue=""))
        ).score
    if "METEOR" in metrics:
        from pycocoevalcap.meteor.meteor import Meteor

        numbered = dict(enumerate(references)), {item: [text] for item, text in enumerate(outputs)}
        scores["METEOR"] = Meteor().compute_score(*numbered)[0]
    if "TER" in metrics:
        edits = [TER().sentence_score(*pair) for pair in zip(outputs, references, strict=True)]
        scores["TER"] = sum(one.num_edits for one in edits) / sum(one.ref_length for one in edits)
    return scores


def clean_hypothesis(text: str) -> str:
    """A system's line as WebNLG's scripts rewrite it: ASCII, lower case, spaces around non-word
    characters."""
    return _split_words(_to_ascii(text).lower())


def clean_reference(text: str) -> str:
    """A reference as WebNLG's scripts rewrite it: the same steps, but split before it becomes
    ASCII."""
    return _to_ascii(_split_words(text).lower())


def _split_words(text: str) -> str:
    return " ".join(" ".join(re.split(r"(\W)", text)).split())


def _to_ascii(text: str) -> str:
    # The challenge used Unidecode (GPL); text-unidecode has the tables of that time and agrees on
    # all WebNLG text.
    from text_unidecode import unidecode  # type: ignore[import-untyped]

    return str(unidecode(text))
