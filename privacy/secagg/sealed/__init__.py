"""Sealed steps: a fixed cohort, pair masks whose seeds hold the whole label, one message a step.

The specification is the chapter "Sealed steps" of docs/secure-aggregation.md. `client` and `server`
are two machines without I/O; `label` is what all masks of one attempt hang on, `epochs` are the
keys, `mac` is how sites tell the opened sum from a false one, `journal` is what a site has on
disk before anything leaves.
"""
