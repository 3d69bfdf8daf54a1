"""`craftsfl model reader-study`: people judge pictures without knowing which are synthetic."""
