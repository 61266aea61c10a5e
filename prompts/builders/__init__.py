"""Builders: from a complete source to the cases of a suite, with the counts of the papers."""
