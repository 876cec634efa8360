"""Demonstrations on disk and in memory: episodes, alignment, bags."""
