"""From whole slides to tiles: cut, choose by tissue and pen, keep where an interruption left off.

Slides, their names and what their files say about people stay here: only pixels of the specimen
leave a slide, never its label or its overview photograph (ADR 52).
"""

# Why: docs/adr/0052-from-slides-to-tiles.md
