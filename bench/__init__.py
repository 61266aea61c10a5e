"""idbench: benchmarks identity-preserving image generation."""

__version__ = "0.1.0"
