"""The mechanisms by which an attempt at a round is made private, each in a folder of its own.

To add one: a folder with its event (`privacy.events.Event`), its mechanism
(`privacy.mechanisms.base.Mechanism`) and its step, and a line in `privacy.mechanisms.registry`.
See docs/adr/0023-mechanisms-as-values.md.
"""
