"""Methods without weights, each a known corner of the preservation-editability plane."""
