"""Faults on purpose: kills, full disks, damaged files, and what must be left of a run."""
