"""`craftsfl site check`: what a hospital would find out in the first round, found before it."""
