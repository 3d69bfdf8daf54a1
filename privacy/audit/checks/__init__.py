"""The checks of a bundle: each a function of evidence that returns what does not hold."""
