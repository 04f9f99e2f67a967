"""The engine's way into the gateway."""

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from schemas.batches import Records
from schemas.errors import ConfigError
from sinks.websocket.gateway import Gateway

PART = "gateway"


class WebsocketSink(FixedPartitionedSink[Records, None]):
    """Publishes batches to a gateway of this process, which its owner starts and stops.

    ``local`` is False in a process that does not host the gateway and may have none to give; the engine then carries
    all batches to the one that does. An epoch ends when the hub has taken its records; nobody waits for clients, so
    none of them can hold up the flow. A record that was published twice after a restart can be told by its ``id``.

    Raises:
        ConfigError: local, and no gateway given.
    """

    def __init__(self, gateway: Gateway | None, *, local: bool = True) -> None:
        if local and gateway is None:
            raise ConfigError("websocket sink: expected a gateway in the process that hosts it, got none")
        self._gateway = gateway
        self._local = local

    def list_parts(self) -> list[str]:
        """Return the one part there is, where the gateway is."""
        return [PART] if self._local else []

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "WebsocketPart":
        """Return the part; there is no state to resume."""
        if self._gateway is None:
            raise ConfigError(f"websocket sink: {step_id} placed {for_part} in a process without a gateway")
        return WebsocketPart(self._gateway)


class WebsocketPart(StatefulSinkPartition[Records, None]):
    """One step's hand-over to the gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def write_batch(self, values: list[Records]) -> None:
        """Hand batches over; waits while the gateway is behind."""
        for records in values:
            self._gateway.publish(records)

    def snapshot(self) -> None:
        """Wait until the hub has taken what was written."""
        self._gateway.drain()
