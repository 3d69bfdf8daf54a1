"""The command line and the demo: the top layer. It may import everything; nothing imports it."""

# Why: docs/adr/0022-one-room-for-each-idea.md
