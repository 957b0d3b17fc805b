"""The commit of this program, on which the numbers of a run depend as they do on its settings."""

import subprocess
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from autolora.configs.count_words import counted

ROOT = Path(__file__).resolve().parents[2]


@cache
def commit() -> str | None:
    """The commit that was checked out when this was first called, with + if tracked files differ from it; None outside
    a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def told_of_commits(commits: Iterable[str | None], what: str) -> str:
    """A sentence that names the commits at which `what` were made, such as runs; empty if there is only one."""
    counts = Counter(commits)
    if len(counts) < 2:
        return ""
    named = ", ".join(f"{name or 'unknown'} ({counted(count, 'run')})" for name, count in counts.items())
    return (
        f"The {what} were made at {len(counts)} commits of this program, so that they may differ by more than their "
        f"settings: {named}."
    )
