"""The program `craftsfl`, and `python -m craftsfl`."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Check that Python finds our packages and nobody else's, then run the command line."""
    shadows = Path(__file__).resolve().parents[1] / "privacy" / "shadows.py"
    words = runpy.run_path(str(shadows))["explain_shadow"]()
    if words:
        sys.exit(words)
    os.environ["PYTHONSAFEPATH"] = "1"  # -P for whatever this starts, workers of a pool included
    from craftsfl.cli import main as command_line
    from craftsfl.spelling_out import spell_out

    spell_out(sys.stdout, sys.stderr)
    command_line()


if __name__ == "__main__":
    main()
