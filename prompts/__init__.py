"""Suites: cases, builders, sources and their data."""
