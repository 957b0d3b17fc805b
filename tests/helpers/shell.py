"""The commands in a block of shell, read without a shell."""

import re
import shlex

QUOTED = r"""'[^']*'|"[^"]*\""""


def commands(block: str) -> list[list[str]]:
    """The words of each command, as the shell would start it.

    Variables and arrays are filled in; comments, here-documents and files that the output goes to
    are left out; loops are not read. Raises KeyError for a variable that the block does not set.
    """
    text = re.sub(r"<<'?(\w+)'?(.*?\n).*?^\1$", r"\2", block, flags=re.S | re.M)
    text = re.sub(rf"({QUOTED})|(?<!\S)#[^\n]*", r"\1", text.replace("\\\n", " "))
    found = list[list[str]]()
    variables = dict[str, str]()
    for statement in re.findall(rf"(?:{QUOTED}|[^'\"\n;|&])+", text):
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
        if len(words) == 1 and (assigned := re.fullmatch(r"(\w+)=(.*)", words[0], re.S)):
            variables[assigned[1]] = assigned[2]
        elif words:
            found.append(words)
    return found


def words(command_line: str) -> tuple[str, ...]:
    """The words of a command line."""
    return tuple(shlex.split(command_line))
