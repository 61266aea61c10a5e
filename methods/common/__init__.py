"""Code that several methods use unchanged."""
