"""The commands in a block of shell, read without a shell."""

import itertools
import re
import shlex
from collections.abc import Iterator

QUOTED = r"""'[^']*'|"[^"]*\""""


def commands(block: str) -> list[list[str]]:
    """The words of each command, as the shell would start it.

    Variables and arrays are filled in and `for` loops (one inside another is not read) are repeated; comments,
    here-documents and files that the output goes to are left out. Raises KeyError for a variable that the block does
    not set.
    """
    text = re.sub(r"<<'?(\w+)'?(.*?\n).*?^\1$", r"\2", block, flags=re.S | re.M)
    text = re.sub(rf"({QUOTED})|(?<!\S)#[^\n]*", r"\1", text.replace("\\\n", " "))
    return _started(iter(re.findall(rf"(?:{QUOTED}|[^'\"\n;|&])+", text)), {})


def _started(statements: Iterator[str], variables: dict[str, str]) -> list[list[str]]:
    found: list[list[str]] = []
    for statement in statements:
        if array := re.fullmatch(r"\s*(\w+)=\((.*)\)\s*", statement, re.S):
            variables[array[1]] = array[2]
            continue
        filled = re.sub(
            r"""'[^']*'|"\$\{(\w+)\[@\]\}"|\$\{?(\w+)\}?""",
            lambda m: variables[m[1] or m[2]] if m[1] or m[2] else m[0],
            statement,
        )
        before_output = re.match(rf"(?:{QUOTED}|[^'\">])*", filled)
        words = shlex.split(before_output[0] if before_output else "")
        if words[:1] == ["do"]:
            words = words[1:]
        match words:
            case []:
                pass
            case ["for", name, "in", *values]:
                body = list(itertools.takewhile(lambda s: s.strip() != "done", statements))
                for value in values:
                    found += _started(iter(body), variables | {name: value})
            case [word] if assigned := re.fullmatch(r"(\w+)=(.*)", word, re.S):
                variables[assigned[1]] = assigned[2]
            case _:
                found.append(words)
    return found
