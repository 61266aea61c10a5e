"""Runs the command line with `python -m idbench`."""

from idbench.cli import main

if __name__ == "__main__":  # a worker process imports this module again
    raise SystemExit(main())
