"""Runs the command line with `python -m idbench`."""

from idbench.cli import main

raise SystemExit(main())
