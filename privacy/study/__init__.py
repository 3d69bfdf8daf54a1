"""A study: its manifest, and what follows from it alone for everybody who takes part."""
