"""Pictures for people and for training jobs: what to draw, where it goes, where it came from."""
