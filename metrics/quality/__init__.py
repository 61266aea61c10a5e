"""Metrics of the image by itself or of sets of images: aesthetics, quality, distance."""
