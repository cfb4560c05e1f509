"""Runs inside the sandbox, in its interpreter: Python 3.9+, standard library only, no other room of ours."""
