"""What a shard of interventions computes with, with the contract's defaults (section 6)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from operators.config import ScoreConfig
from operators.interventions.policies import Policies, Policy
from operators.interventions.reading import FOLDER

DAY_MS: Final = 86_400_000


class PolicySource(Protocol):
    """Where the policies of tenants are asked for; what it says may change."""

    def of(self, tenant: str, ts: int) -> Policy:
        """Return the policy of a tenant at a time (milliseconds since 1970 UTC)."""


@dataclass(frozen=True)
class InterventionConfig:
    """What a shard of interventions computes with.

    ``memory_ms``: how long an intervention is known, for its outcomes and its effect. ``approval_ms``: how long one
    waits for approval, which is no longer; a tenant has at most ``pending_most`` of those. ``score``: how engagement is
    scored. ``rules``: the folder with the mapping and the texts, for ``read_interventions``.
    """

    policies: PolicySource = field(default_factory=Policies)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    memory_ms: int = DAY_MS
    approval_ms: int = 30 * 60_000
    pending_most: int = 1_000
    rules: Path = FOLDER

    def __post_init__(self) -> None:
        if not 0 < self.approval_ms <= self.memory_ms:
            raise ValueError(f"approval_ms: expected more than 0 and at most memory_ms, got {self.approval_ms}")
