"""Where the repository lies, and the real data that some machines keep beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
"""Real data sets and real system outputs; tests that need a folder of it are skipped where there is
none."""
