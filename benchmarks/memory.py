"""Measure the peak memory of a search by each hypergradient over that of plain LoRA, each in a
process of its own.

The peak is counted from the first step on. On a CPU: the largest resident memory (VmHWM of Linux),
libraries and model included. On a GPU: the most memory that torch had allocated.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from autolora.engine.run.resources import forget_peak, peak_memory
from benchmarks import options, write
from benchmarks.step import MODEL, batches, configured, step_of

TARGET = 1.15
"""A search may take this many times the peak memory of plain LoRA."""
OPTIONS = MODEL | {
    "length": 128,
    "methods": ["first_order", "forward_difference", "darts"],
    "steps": 5,
    "only": None,
}
"""`only`: measure this one in this process: lora or a hypergradient."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures each training, prints the peaks, and writes the numbers."""
    words = list(sys.argv[1:] if argv is None else argv)
    asked = options(__doc__, OPTIONS, words)
    if asked.only:
        compute = configured(asked, "lora")[1]
        step = step_of(asked, asked.only)
        given = batches(asked, asked.steps)
        forget_peak(compute)  # which loading the model had reached
        for batch in given:
            step(batch)
        write(asked.json, {"peak_mib": peak_memory(compute)}, asked)
        return 0
    peaks = {}
    for name in ("lora", *asked.methods):
        with tempfile.NamedTemporaryFile() as file:
            more = ["--only", name, "--json", file.name]
            subprocess.run([sys.executable, "-m", "benchmarks.memory", *words, *more], check=True)
            peaks[name] = json.loads(Path(file.name).read_text())["peak_mib"]
    ratios = {name: peaks[name] / peaks["lora"] for name in asked.methods}
    for name, ratio in ratios.items():
        print(f"{name:20} {peaks[name]:.0f} MiB, {ratio:.3f} of LoRA's (target {TARGET:g})")
    write(asked.json, {"ratio_to_lora": ratios, "mib": peaks, "target": TARGET}, asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
