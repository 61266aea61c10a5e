"""EditID."""
