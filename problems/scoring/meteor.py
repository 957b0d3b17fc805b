"""METEOR 1.5 (Denkowski and Lavie 2014) through its own Java program: English, `-norm`, all matchers."""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from autolora.configs.errors import UserError
from autolora.problems.scoring.java import bundled_jar, java_command

_PROTOCOL = re.compile(r"\|\|\||[\r\n]")


class Meteor:
    """One METEOR process, closed when the `with` block ends, however it ends.

    It talks to the jar over pipes, so no file is written that a second run could overwrite. The jar gives the same
    digits this way as in file mode (`-r N` with empty lines for missing references): checked on WebNLG 2017.
    Source: the `-stdio` protocol of meteor-1.5.jar, as in pycocoevalcap 1.2 and the E2E and WebNLG scripts.
    """

    def __enter__(self) -> Self:
        """Starts Java. Raises UserError when there is none."""
        arguments = ("-jar", bundled_jar("meteor", "meteor-1.5.jar"), "-", "-", "-stdio", "-l", "en", "-norm")
        command = java_command("METEOR", *arguments)
        self._messages = tempfile.TemporaryFile()  # a pipe that nobody reads could fill up and block
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._messages, encoding="utf-8", errors="replace"
        )
        assert self._process.stdin is not None  # for the type checker: both are pipes
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the input of the process, at which it stops by itself, and kills it if it does not stop."""
        with suppress(OSError):  # it may be gone already
            self._requests.close()
        try:
            self._process.wait(timeout=0 if kind else 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._messages.close()

    def segment(self, hyp: str, refs: Sequence[str]) -> str:
        """Statistics of one segment against its best reference, for `corpus`; an empty reference matches nothing."""
        # A text must not hold the protocol's separator, nor a line end, which would end the request.
        return self._ask(" ||| ".join(["SCORE", *(_PROTOCOL.sub(" ", text) for text in (*refs, hyp))]))

    def corpus(self, segments: Sequence[str]) -> float:
        """METEOR (0 to 1) of these segments together, from their summed statistics; not a mean of segment scores."""
        self._ask(" ||| ".join(["EVAL", *segments]))
        for _ in segments[1:]:
            self._read()
        return float(self._read())  # the line after the segments' own scores

    def _ask(self, line: str) -> str:
        try:
            self._requests.write(line + "\n")
            self._requests.flush()
        except OSError:
            raise self._ended() from None
        return self._read()

    def _read(self) -> str:
        answer = self._answers.readline()
        if not answer or answer.startswith("Error"):
            raise self._ended(answer.strip())
        return answer.strip()

    def _ended(self, answer: str = "") -> UserError:
        self._messages.seek(0)
        lines = self._messages.read().decode("utf-8", errors="replace").strip().splitlines()
        return UserError(f"METEOR: its Java process stopped ({answer or (lines[0] if lines else 'no message')})")
