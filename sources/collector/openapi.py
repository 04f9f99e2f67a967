"""The OpenAPI document (3.1), made from the same structs that requests and answers are decoded and encoded with."""

import re
from typing import Any, Final

import msgspec

from schemas.jsonschema import CONTROL, DIALECT, Schema, read_glossary, schema_of
from schemas.registry import INBOUND
from sources.collector.config import TOPICS
from sources.collector.messages import Batch, Fault, Observation, Verdict, Verdicts

_REF: Final = "#/components/schemas/"
_STAMPED: Final = ("tenant_id", "session_id", "user_id", "ts")
"""Fields of a record that are the server's to fill: from the key, from the batch, from the clock."""

_AT: Final[Schema] = {
    "description": "When it happened by the device's clock (milliseconds since 1970).",
    "type": "integer",
    "minimum": 0,
}
_REFUSALS: Final = {
    "400": "The body is no JSON.",
    "401": "The key is missing or unknown.",
    "403": "Pages of this origin may not use this key: its origins do not name it.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "415": "The body is compressed, or of another media type.",
    "422": "A field of the request is not as it should be.",
    "429": "Too many events: wait for Retry-After.",
    "503": "Kafka has not confirmed: send the same again after Retry-After.",
}


def document() -> Schema:
    """Return the whole document."""
    structs = (Batch, Observation, Verdict, Verdicts, Fault)
    _, schemas = msgspec.json.schema_components(structs, ref_template=_REF + "{name}")
    for name in ("Batch", "Observation"):
        for field in ("session_id", "user_id"):
            schemas[name]["properties"][field]["not"] = {"pattern": CONTROL}
    events = {INBOUND[kind].struct.__name__: _event(kind) for kind in TOPICS if kind.startswith("telemetry.")}
    schemas["Batch"]["properties"]["events"]["items"] = {
        "description": "An event of telemetry. Anything else is answered with a verdict of its own: rejected.",
        "anyOf": [*({"$ref": _REF + name} for name in events), {}],
    }
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": DIALECT,
        "info": {
            "title": "Attune collector",
            "version": "1",
            "description": "Takes telemetry from browsers, stamps it, and answers when Kafka has it.",
        },
        "paths": {
            "/api/telemetry/stream": {"post": _post("Send a batch of telemetry", "Batch", "Verdicts")},
            "/api/emotional/event": {"post": _post("Send an emotion diagnosed elsewhere", "Observation", "Verdict")},
            "/health/live": {"get": _get("Whether the process answers", {"200": "It does."})},
            "/health/ready": {
                "get": _get("Whether events can be taken", {"200": "They can.", "503": "They can't, and why."})
            },
        },
        "components": {
            "schemas": {**events, **schemas},
            "securitySchemes": {
                "header": {"type": "apiKey", "in": "header", "name": "X-Attune-Key"},
                "parameter": {"type": "apiKey", "in": "query", "name": "key"},
            },
        },
    }


def _event(kind: str) -> Schema:
    """Return how an event of a type is sent: without what the server fills in, with the device's time."""
    schema = schema_of("inbound", kind, INBOUND[kind].struct, read_glossary())
    for name in ("$schema", "$id"):
        del schema[name]
    for name in _STAMPED:
        del schema["properties"][name]
    schema["properties"]["at"] = _AT
    schema["required"] = [name for name in schema["required"] if name not in _STAMPED] + ["at"]
    return schema


def _post(summary: str, request: str, answer: str) -> dict[str, Any]:
    schema = {"schema": {"$ref": _REF + request}}
    refusals = {status: _answer(text, "Fault", status) for status, text in _REFUSALS.items()}
    return {
        "summary": summary,
        "operationId": re.sub(r"\W+", "_", summary.lower()),
        "security": [{"header": []}, {"parameter": []}],
        "requestBody": {"required": True, "content": {"application/json": schema, "text/plain": schema}},
        "responses": {"200": _answer("Kafka has what was accepted.", answer), **refusals},
    }


def _answer(description: str, schema: str, status: str = "200") -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": _REF + schema}}},
    }
    if status in ("429", "503"):
        seconds = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}
        answer["headers"] = {"Retry-After": seconds}
    return answer


def _get(summary: str, answers: dict[str, str]) -> dict[str, Any]:
    states = {"schema": {"type": "object", "additionalProperties": {"type": "string"}}}
    return {
        "summary": summary,
        "operationId": re.sub(r"\W+", "_", summary.lower()),
        "responses": {
            status: {"description": text, "content": {"application/json": states}} for status, text in answers.items()
        },
    }
