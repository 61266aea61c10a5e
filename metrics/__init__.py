"""Networks that read images (extractors) and the maths on what they see (metrics)."""
