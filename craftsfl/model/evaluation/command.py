"""`craftsfl model evaluate`: checks, works, prints, writes and logs."""

from __future__ import annotations

import sys

from craftsfl.model.evaluation.options import EvaluationOptions
from craftsfl.model.evaluation.report import PRIVATE, as_json, show
from craftsfl.model.evaluation.tracking import log
from craftsfl.terminal import errors, output, progress


def run_evaluation(options: EvaluationOptions) -> None:
    """Print the figures, and write or log them where asked.

    Raises `CraftsflError`, before any work where the options do not go together.
    """
    options.check()
    told = errors()
    if not options.public:
        told.print(f"[bold red]STAYS AT THE SITE.[/] {PRIVATE}", highlight=False)
    from craftsfl.model.evaluation.examine import examine  # loads torch

    with progress(stderr=True).status("…") as status:
        examined = examine(options, lambda text: status.update(text))
    if options.as_json:
        sys.stdout.write(as_json(examined.report) + "\n")
    else:
        show(examined.report, output())
    if options.html is not None:
        from craftsfl.model.evaluation.page import write_page

        write_page(options.html, examined, with_patients=options.with_patients)
        told.print(f"Page: {options.html}", highlight=False, markup=False)
    if options.destination is not None:
        run = log(examined.report, options.destination)
        told.print(f"MLflow run: {run}", highlight=False, markup=False)
