"""Build, package and prove the TARPIT netfilter target for any kernel."""

__version__ = "1.0.0"
