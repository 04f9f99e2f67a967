"""Logging to standard error through structlog, for people or as JSON, with no secret in any line.

The records of libraries that use the standard ``logging`` go the same way.
"""

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from flows.settings.secrecy import MASK, is_secret_name, mask_text


class MaskSecrets:
    """A processor that hides what secret fields hold, and known secrets wherever they stand, tracebacks too.

    >>> MaskSecrets(frozenset({"hunter2"}))(None, "info", {"event": "refused", "why": "bad hunter2", "password": "x"})
    {'event': 'refused', 'why': 'bad **********', 'password': '**********'}
    """

    def __init__(self, secrets: frozenset[str]) -> None:
        self._secrets = secrets

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Return the event with its secrets masked."""
        return {key: MASK if is_secret_name(key) else self._mask(value) for key, value in event.items()}

    def _mask(self, value: object) -> object:
        if isinstance(value, str):
            return mask_text(value, self._secrets)
        if isinstance(value, dict):
            return self(None, "", value)
        if isinstance(value, list | tuple):
            return [self._mask(inner) for inner in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        # Whatever else is given is shown by its text, which may hold anything.
        return mask_text(str(value), self._secrets)


def configure(
    level: str = "info",
    style: Literal["console", "json"] = "console",
    secrets: frozenset[str] = frozenset(),
    stream: TextIO | None = None,
) -> None:
    """Set up structlog and the standard library's logging for this process. May be called again."""
    out = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        MaskSecrets(secrets),
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=0),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=render))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
