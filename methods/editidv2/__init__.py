"""EditIDv2."""
