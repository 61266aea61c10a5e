"""Tiny checkpoints with random weights in the official formats, one for every recipe.

For tests, and for trying a recipe on a machine without its files: `checkpoints.write_tiny` fills a
weights folder that the real loaders read. Their images mean nothing.
"""
