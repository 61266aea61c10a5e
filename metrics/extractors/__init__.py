"""Network passes over images and texts, each of which yields features."""
