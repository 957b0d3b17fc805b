"""Which real E2E outputs there are, and their official scores."""

import json
from pathlib import Path
from typing import Any


def e2e_systems() -> list[tuple[str, str]]:
    """Hypothesis and reference file of each E2E system."""
    return [
        ("baseline-output.txt", "devel-conc.txt"),
        ("ukp_dev_seed1.txt", "dev_refs.txt"),
        ("ukp_dev_seed10.txt", "dev_refs.txt"),
        ("ukp_dev_seed11.txt", "dev_refs.txt"),
    ]


def e2e_expected(folder: Path, hyp: str) -> dict[str, float]:
    """Official scores of one system under the script's names; BLEU and NIST with all digits of its Python port."""
    expected: Any = json.loads((folder / "expected.json").read_text())
    if hyp == expected["example-inputs"]["hyp"]:
        found = expected["example-inputs"]["scores"]
    else:
        run = next(run for run in expected["ukplab_dev"]["runs"] if run["hyp"] == hyp)
        found = run["scores_csv_row"] | run["pymteval_here"]
    names = {"bleu": "BLEU", "nist": "NIST", "meteor": "METEOR", "rouge_l": "ROUGE_L", "rouge": "ROUGE_L"}
    return {names.get(name, "CIDEr"): value for name, value in found.items()}
