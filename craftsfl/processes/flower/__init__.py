"""Flower's own processes: their keys, command lines and environment."""
