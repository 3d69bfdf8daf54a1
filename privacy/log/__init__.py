"""The consortium's log: what cannot be taken back, changed or told differently to two sites."""
