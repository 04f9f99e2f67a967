"""Where the gateway listens and how patient it is."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sinks.websocket.limits import Limits

DASHBOARD: Final = Path(__file__).parents[2] / "dashboard"

LOCAL: Final = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """The settings of one gateway; durations in seconds.

    ``origins`` are those whose pages may connect, empty for the gateway's own page alone. ``behind_proxy``: a proxy
    that speaks TLS stands in front, at one of the addresses in ``proxies``. A client that has not read what was written
    to it for ``stall_s`` is dropped. Every ``sweep_s`` tokens are looked at, whether they hold still.
    ``handover_records`` may wait for the gateway's thread, and a publisher for ``handover_timeout_s``. ``dashboard``
    is the folder of the page.
    """

    host: str = "127.0.0.1"
    port: int = 8003
    behind_proxy: bool = False
    proxies: tuple[str, ...] = LOCAL
    origins: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    handshake_timeout_s: float = 5.0
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 20.0
    stall_s: float = 10.0
    close_timeout_s: float = 3.0
    sweep_s: float = 1.0
    handover_records: int = 20_000
    handover_timeout_s: float = 60.0
    dashboard: Path = DASHBOARD
