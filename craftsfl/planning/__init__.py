"""What a study would teach and cost, before any patient pays for it.

`gradients`, `tissue` and what rehearses need torch; everything else is arithmetic, without it.
"""

# Why: docs/adr/0047-a-plan-before-a-study.md
