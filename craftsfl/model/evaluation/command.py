"""`craftsfl model evaluate`: checks, computes, prints, writes and logs."""

from __future__ import annotations

import sys

from craftsfl.model.evaluation.options import EvaluationOptions
from craftsfl.model.evaluation.report import PRIVATE_FIGURES, report_json, show_evaluation
from craftsfl.model.evaluation.tracking import log_evaluation
from craftsfl.terminal import errors, output, progress


def run_evaluation(options: EvaluationOptions) -> None:
    """Print the figures, and write or log them if asked to.

    Raises `CraftsflError`; before any work if the options contradict each other.
    """
    options.check()
    console = errors()
    if not options.public:
        console.print(f"[bold red]STAYS AT THE SITE.[/] {PRIVATE_FIGURES}", highlight=False)
    from craftsfl.model.evaluation.examine import examine  # loads torch

    with progress(stderr=True).status("…") as status:
        examined = examine(options, lambda text: status.update(text))
    if options.as_json:
        sys.stdout.write(report_json(examined.report) + "\n")
    else:
        show_evaluation(examined.report, output())
    if options.html is not None:
        from craftsfl.model.evaluation.page import write_page

        write_page(options.html, examined, with_patients=options.with_patients)
        console.print(f"Page: {options.html}", highlight=False, markup=False)
    if options.destination is not None:
        run = log_evaluation(examined.report, options.destination)
        console.print(f"MLflow run: {run}", highlight=False, markup=False)
