"""The empirical audit."""
