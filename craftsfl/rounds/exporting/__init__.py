"""`craftsfl rounds export`: an adapter as a folder that others can load, trust and cite."""

# Why: docs/adr/0053-champions-and-exports.md
