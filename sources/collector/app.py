"""The collector's paths and answers, as an ASGI application."""

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from prometheus_client import Counter, Histogram
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from schemas.errors import ConfigError
from sources.collector.config import CollectorConfig, Key
from sources.collector.door import KEY_HEADER, Door, allowed_origins, cors, key_name
from sources.collector.judge import Clock, Judged, judge, observed, place_of
from sources.collector.messages import Batch, Fault, Observation, RefusedError, Verdicts, read_request, refused
from sources.collector.openapi import document
from sources.collector.publisher import Publisher, Record, UnconfirmedError
from sources.collector.stamps import Stamps, offsets

ACCEPTED = Counter("attune_collector_accepted_total", "Events that Kafka has", ["type"])
REJECTED = Counter("attune_collector_rejected_total", "Events that were rejected, by reason", ["reason"])
ANSWERS = Counter("attune_collector_answers_total", "Answers by path and status", ["path", "status"])
SECONDS = Histogram(
    "attune_collector_seconds",
    "From a whole body to its answer, Kafka's confirmation included",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)

STREAM: Final = "/api/telemetry/stream"
EMOTION: Final = "/api/emotional/event"
SAFETY: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
RETRY_S: Final = 1.0
"""How soon those who hear that Kafka has not confirmed may come again."""

_log = structlog.get_logger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
Taken = Callable[[Request, Key, bytes], Awaitable[msgspec.Struct]]


class Paths:
    """Answers requests; ``now_ms`` gives milliseconds since 1970 UTC."""

    def __init__(self, config: CollectorConfig, publisher: Publisher, now_ms: Callable[[], int]) -> None:
        self._config = config
        self._publisher = publisher
        self._now_ms = now_ms
        self._door = Door(config)
        self._stamps = Stamps()
        self._document = msgspec.json.encode(document())
        try:
            self._snippet = config.snippet.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"collector: {error.filename} can't be read ({error.strerror}): install Attune with its folder"
                " dashboard/"
            ) from error

    def routes(self) -> list[Route]:
        """Return all paths."""
        return [
            Route(STREAM, self._post(STREAM, self._stream), methods=["POST", "OPTIONS"]),
            Route(EMOTION, self._post(EMOTION, self._emotion), methods=["POST", "OPTIONS"]),
            Route("/openapi.json", self._openapi, methods=["GET"]),
            Route("/attune.js", self._script, methods=["GET"]),
            Route("/health/live", self._live, methods=["GET"]),
            Route("/health/ready", self._ready, methods=["GET"]),
        ]

    def _post(self, path: str, take: Taken) -> Endpoint:
        """Return the endpoint that lets in, reads, and answers with what ``take`` says."""

        async def endpoint(request: Request) -> Response:
            if request.method == "OPTIONS":
                return self._preflight(request)
            try:
                key = self._door.admit(request)
                body = await self._door.body(request)
                with SECONDS.time():
                    response = _json(200, await take(request, key, body))
            except RefusedError as error:
                response = _refusal(error)
            except UnconfirmedError:
                response = _refusal(refused(503, "unconfirmed", "Kafka has not confirmed: send it again.", RETRY_S))
            response.headers.update(cors(self._config, request))
            ANSWERS.labels(path, response.status_code).inc()
            return response

        return endpoint

    async def _stream(self, request: Request, key: Key, body: bytes) -> Verdicts:
        batch = read_request(body, Batch)
        self._door.spend(request, key, len(batch.events))
        place = place_of(key.tenant, batch)
        now = self._now_ms()
        late_after = self._config.late_after_ms
        used, told = offsets(batch.sent_at, batch.offset_ms, now, late_after)
        clock = Clock(now, batch.sent_at, used, late_after, self._stamps)
        judged = [judge(event, place, clock, self._config.topics) for event in batch.events]
        accepted = await self._publish(place.kafka_key, judged)
        return Verdicts(accepted, len(judged) - accepted, told, [one.verdict for one in judged])

    async def _emotion(self, request: Request, key: Key, body: bytes) -> msgspec.Struct:
        observation = read_request(body, Observation)
        self._door.spend(request, key, 1)
        place = place_of(key.tenant, observation)
        now = self._now_ms()
        name = (place.tenant_id, place.session_id, place.user_id, observation.event_id)
        judged = observed(observation, place, self._stamps.first(name, now, now))
        await self._publish(place.kafka_key, [judged])
        return judged.verdict

    async def _publish(self, kafka_key: bytes, judged: Sequence[Judged]) -> int:
        """Write what was accepted, and count; returns how much that is once Kafka has it."""
        records: list[Record] = [
            (self._config.topics[one.type], kafka_key, one.record) for one in judged if one.record is not None
        ]
        if records:
            await self._publisher.publish(records)
        for one in judged:
            if one.record is None:
                REJECTED.labels(one.verdict.reason).inc()
            else:
                ACCEPTED.labels(one.type).inc()
        return len(records)

    def _preflight(self, request: Request) -> Response:
        """Tell a browser what its page may send."""
        origin = request.headers.get("origin")
        if origin is None:
            return Response(status_code=204, headers=SAFETY | {"Allow": "POST, OPTIONS"})
        if origin not in allowed_origins(self._config, key_name(request)):
            response = _refusal(
                refused(403, "foreign_origin", "Pages of this origin may not send here: no key's origins name it.")
            )
            response.headers["Vary"] = "Origin"
            return response
        allowed = {
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": f"Content-Type, {KEY_HEADER}",
            "Access-Control-Max-Age": "7200",
        }
        return Response(status_code=204, headers=SAFETY | cors(self._config, request) | allowed)

    async def _openapi(self, _request: Request) -> Response:
        return _answer(200, self._document, "application/json", {"Access-Control-Allow-Origin": "*"})

    async def _script(self, _request: Request) -> Response:
        shared = {"Cross-Origin-Resource-Policy": "cross-origin", "Cache-Control": "public, max-age=300"}
        return _answer(200, self._snippet, "text/javascript; charset=utf-8", shared)

    async def _live(self, _request: Request) -> Response:
        return _answer(200, b'{"live":"ok"}')

    async def _ready(self, _request: Request) -> Response:
        state = await self._publisher.state()
        return _answer(200 if state == "ok" else 503, msgspec.json.encode({"collector": "ok", "kafka": state}))


def application(
    config: CollectorConfig, publisher: Publisher, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
) -> Starlette:
    """Return the application. ``publisher`` must have been started."""
    handlers: dict[Any, Any] = {HTTPException: _no_route, Exception: _failed}
    app = Starlette(routes=Paths(config, publisher, now_ms).routes(), exception_handlers=handlers)
    # A redirect would name the host that the request names: there is nothing to find under another spelling of a path.
    app.router.redirect_slashes = False
    return app


def _answer(status: int, body: bytes, media: str = "application/json", extra: dict[str, str] | None = None) -> Response:
    return Response(body, status, {"Cache-Control": "no-store", **SAFETY, **(extra or {})}, media)


def _json(status: int, said: msgspec.Struct) -> Response:
    return _answer(status, msgspec.json.encode(said))


def _refusal(error: RefusedError) -> Response:
    response = _json(error.status, error.fault)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if error.status in (408, 413):
        response.headers["Connection"] = "close"  # What is left of the body is not read.
    return response


async def _no_route(_request: Request, error: HTTPException) -> Response:
    phrase = HTTPStatus(error.status_code).phrase
    response = _json(error.status_code, Fault(phrase.lower().replace(" ", "_"), f"{phrase}."))
    response.headers.update(error.headers or {})
    return response


async def _failed(_request: Request, _error: Exception) -> Response:
    return _json(500, Fault("internal", "The collector failed; what it was is in its log."))
