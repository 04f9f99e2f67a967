"""Hypothesis without its deadlines: a busy machine makes no test fail; what takes too long ends by pytest's timeout."""

from hypothesis import settings

settings.register_profile("attune", parent=settings(), deadline=None)
settings.load_profile("attune")
