"""The gateway's protocol as an AsyncAPI 3.0 document, made of the messages themselves: ``docs/asyncapi.json``.

``python -m sinks.websocket.asyncapi`` writes it, with ``--check`` it only compares.
"""

import inspect
import sys
import typing
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.registry import CHANNELS
from sinks.websocket import client as codes
from sinks.websocket.replies import PROTOCOL, AnyReply
from sinks.websocket.requests import AnyRequest

FILE: Final = Path(__file__).parents[2] / "docs" / "asyncapi.json"

CLOSE_CODES: Final = {
    1001: "the gateway is stopping",
    1007: "text that is not UTF-8",
    1008: "too many bad messages, or too much data",
    1009: "a message that is too large",
    1011: "an answer to a ping failed to come, or a fault of the gateway",
    codes.TRY_AGAIN_LATER: "the gateway is full",
    codes.TOKEN_REFUSED: "no token in time, or one that is not valid",
    codes.TOKEN_EXPIRED: "the token has expired",
    codes.TOKEN_REVOKED: "the token was revoked",
    codes.TOO_SLOW: "too slow",
    codes.TOO_MANY: "too many connections of this user",
}

RECORD: Final = {
    "description": "A record of a channel, byte for byte what is on its topic. Clients get a receipt and no offset.",
    "type": "object",
    "properties": {
        "op": {"const": "record"},
        "channel": {"enum": list(CHANNELS)},
        "offset": {"type": "integer", "minimum": 1},
        "receipt": {"type": "string", "description": "To be given back with what the client acknowledges."},
        "record": {"type": "object", "description": "One of schemas/json/outbound.", "required": ["type", "id", "ts"]},
    },
    "required": ["op", "channel", "record"],
}


def document() -> dict[str, Any]:
    """Return the document."""
    requests, replies = (typing.get_args(union) for union in (AnyRequest, AnyReply))
    # The gateway's own messages may get more fields; only what clients say is closed.
    schemas, components = msgspec.json.schema_components(
        [*requests, *replies], ref_template="#/components/schemas/{name}"
    )
    names = [schema["$ref"].rpartition("/")[2] for schema in schemas]
    components["Record"] = RECORD
    for schema in components.values():
        schema.pop("title", None)
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    sent, received = names[: len(requests)], [*names[len(requests) :], "Record"]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Attune's websocket gateway",
            "version": str(PROTOCOL),
            "description": "What it all means: docs/websocket.md. Close codes: "
            + "; ".join(f"{code} {why}" for code, why in sorted(CLOSE_CODES.items()))
            + ".",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:8003",
                "protocol": "ws",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            }
        },
        "channels": {
            "gateway": {
                "address": "/ws",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in (*sent, *received)},
            }
        },
        "operations": {
            "say": _operation("receive", sent, "What a client says."),
            "hear": _operation("send", received, "What the gateway says."),
        },
        "components": {
            "messages": {
                name: {"name": name, "payload": {"$ref": f"#/components/schemas/{name}"}} for name in (*sent, *received)
            },
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "In the handshake's header, or in the first message.",
                }
            },
        },
    }


def text() -> str:
    """Return the document as its file holds it."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2).decode() + "\n"


def _operation(action: str, names: list[str], summary: str) -> dict[str, Any]:
    messages = [{"$ref": f"#/channels/gateway/messages/{name}"} for name in names]
    return {"action": action, "channel": {"$ref": "#/channels/gateway"}, "summary": summary, "messages": messages}


def main(arguments: list[str]) -> int:
    """Write the file, or tell whether it is what it should be; returns the exit code."""
    if arguments != ["--check"]:
        FILE.write_text(text(), encoding="utf-8")
        return 0
    if FILE.is_file() and FILE.read_text(encoding="utf-8") == text():
        return 0
    sys.stderr.write(f"{FILE.name} is not what the messages say: run make schemas\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
