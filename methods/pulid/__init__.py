"""PuLID-FLUX."""
