"""Layouts in which other benchmarks keep generated images: read into units, written from units."""
