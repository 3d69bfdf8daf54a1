"""Public-data work before and after a study: pretraining, ControlNet, data sets, evaluation.

Nothing that trains with patients imports it, and no app bundle ships it.
"""

# Why: docs/adr/0026-laboratory-apart.md
