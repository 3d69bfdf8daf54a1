"""From nothing to a hospital that can serve: its files, its policy for the study, its signature."""
