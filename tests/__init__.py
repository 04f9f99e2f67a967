"""Tests: they mirror the packages; fixtures are plugin modules named `fix_*.py`."""
