"""The command line and the demo: the top layer. It may import everything; nothing imports it."""
