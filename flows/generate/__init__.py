"""Synthetic traffic with its truth: pure functions of a plan and its seed, no clock, no network.

``SCENARIOS`` names what can be generated; each gives events in order of ``ts`` and, once they are exhausted, the truth
about them, computed from what the generator knows rather than from how the flow counts.
"""

from flows.generate.plan import Plan, Traffic
from flows.generate.scenarios import SCENARIOS

__all__ = ["SCENARIOS", "Plan", "Traffic"]
