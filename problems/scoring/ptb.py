"""Tokens as the MS-COCO caption scripts make them: Stanford's PTB tokeniser, lower case, punctuation removed."""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from autolora.configs.errors import UserError
from autolora.problems.scoring.java import bundled_jar, java_command

# The tokeniser starts a new output line at each of these, which would shift every sentence after it.
_LINE_BREAKS = re.compile(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


def ptb_tokenize(sentences: Sequence[str], metric: str = "PTB tokens") -> list[str]:
    """Each sentence as its tokens joined by spaces; an empty sentence stays empty.

    All sentences go through one call in their order, as in the official script: at a line's end the tokeniser looks
    at the next line. Raises UserError without Java (naming `metric`). Source: pycocoevalcap 1.2, PTBTokenizer.
    """
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    if not sentences:
        return []
    jar = bundled_jar("tokenizer", "stanford-corenlp-3.4.1.jar")
    with tempfile.TemporaryDirectory(prefix="autolora-ptb-") as folder:
        source = Path(folder) / "sentences.txt"
        text = "\n".join(_LINE_BREAKS.sub(" ", sentence) for sentence in sentences)
        source.write_bytes(text.encode("utf-8", errors="replace"))
        tokenizer = ("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", str(source))
        done = subprocess.run(java_command(metric, "-cp", jar, *tokenizer), capture_output=True)
    lines = done.stdout.decode("utf-8", errors="replace").split("\n")
    if done.returncode != 0 or len(lines) < len(sentences):
        reason = done.stderr.decode("utf-8", errors="replace").strip().splitlines()
        raise UserError(f"{metric}: the PTB tokeniser failed ({reason[-1] if reason else 'no message'})")
    dropped = set(PUNCTUATIONS)
    return [
        " ".join(word for word in line.rstrip().split(" ") if word not in dropped) for line in lines[: len(sentences)]
    ]
