"""`craftsfl model atlas`: what a model draws of each cancer type, on one page."""
