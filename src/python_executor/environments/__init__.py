"""Which interpreters and packages code can be run with."""
