"""Java for the metrics that are Java programs: find it, refuse early without it, build command lines."""

import os
import shutil
import subprocess
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from autolora.configs.errors import UserError

# The heap is bounded, so that several runs fit on one machine (METEOR with its paraphrase table needs 0.5 GB). One GC
# thread: the scorers are single-threaded. UTF-8 whatever the locale is.
_FLAGS = ("-Xmx1G", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8")


def find_java() -> str | None:
    """Path of a Java that runs: JAVA_HOME's, else the one on PATH; None when there is none."""
    home = os.environ.get("JAVA_HOME")
    candidates = [shutil.which(Path(home) / "bin" / "java") if home else None, shutil.which("java")]
    return next((str(path) for path in candidates if path and _runs(str(path))), None)


@lru_cache
def _runs(path: str) -> bool:
    """Whether this Java starts: macOS and some Debian set-ups have a `java` that only says that there is none."""
    try:
        return subprocess.run([path, "-version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def require_java(metric: str, option: str = "--task.metrics") -> str:
    """Path of Java. If no Java runs, raises UserError, which names the metric and the package, and says what to do.

    `option`: the option of the command line that chooses the metrics.
    """
    path = find_java()
    if path is None:
        raise UserError(
            f"{metric}: needs Java, and neither PATH nor JAVA_HOME has one that runs; install it (Debian package: "
            f"default-jre-headless) or leave {metric} out of {option}"
        )
    return path


def java_command(metric: str, *arguments: str) -> list[str]:
    """Command line of a Java program that serves this metric, with the heap bounded."""
    return [require_java(metric), *_FLAGS, *arguments]


def bundled_jar(folder: str, name: str) -> str:
    """Path of a jar inside the installed pycocoevalcap (METEOR 1.5, Stanford CoreNLP 3.4.1)."""
    spec = find_spec("pycocoevalcap")
    for root in spec.submodule_search_locations or () if spec else ():
        jar = Path(root) / folder / name
        if jar.is_file():
            return str(jar)
    raise UserError(f"{name}: not found; it comes with a package: pip install pycocoevalcap==1.2")
