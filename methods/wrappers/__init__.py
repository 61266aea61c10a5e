"""Methods that run somebody else's code or images."""
