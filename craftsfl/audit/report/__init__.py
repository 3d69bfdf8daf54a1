"""The report: what a bundle shows, for a lawyer to read and a statistician to check."""
