"""Getting data sets onto this machine: terms, fetching, safe unpacking, locks and verification."""
