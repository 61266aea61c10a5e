"""The tables of the papers as data; see README.md."""
