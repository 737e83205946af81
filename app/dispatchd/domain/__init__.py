"""The rules: states, transitions, retries, limits and errors. Pure: no I/O, no clock, no randomness of its own."""
