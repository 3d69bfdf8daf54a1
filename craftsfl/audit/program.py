"""The auditor's commands by themselves, as a program: what the single file runs."""

from __future__ import annotations

import sys

from craftsfl.audit.commands import app
from craftsfl.spelling_out import spell_out
from craftsfl.terminal import errors
from privacy.errors import CraftsflError
from privacy.visible import visible


def main() -> None:
    """Run the command line; errors are text, never a traceback."""
    spell_out(sys.stdout, sys.stderr)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except CraftsflError as error:
        lines = [f"Error: {error.message}", f"Next: {error.hint}" if error.hint else ""]
        for line in filter(None, lines):
            errors().print(visible(line, keep="\n"), highlight=False, markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
