"""`craftsfl model augment`: pictures for a user's own classes, and what they add."""
