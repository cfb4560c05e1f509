"""python-executor: run Python that nobody trusts, isolated from the machine and from its neighbours."""

__version__ = "0.1.0"
