"""Servers that run on this machine with nothing installed but Python packages, for the demo and for tests."""
