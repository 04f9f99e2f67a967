"""The served OpenAPI document says what the collector does: schemathesis tries both against each other."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from sources.collector.config import TOPICS
from sources.collector.openapi import document
from tests.fix_collector import KEY, Collecting

POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CASES = [
    pytest.param(path, method, mode, id=f"{path}, {mode.value}")
    for path, item in document()["paths"].items()
    for method in item
    for mode in ((POSITIVE, NEGATIVE) if method == "post" else (POSITIVE,))
]


@pytest.mark.parametrize("path, method, mode", CASES)
def test_requests_and_answers_are_those_of_the_document(
    collecting: Collecting, path: str, method: str, mode: GenerationMode
) -> None:
    operation = schemathesis.openapi.from_url(f"{collecting.collector.url}openapi.json")[path][method]

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(headers={"X-Attune-Key": KEY})

    check()


def test_every_type_that_is_taken_is_described() -> None:
    schemas = document()["components"]["schemas"].values()
    types = [schema["properties"].get("type", {}) for schema in schemas if "properties" in schema]
    told = {kind for described in types for kind in described.get("enum", [])}
    assert told == {kind for kind in TOPICS if kind.startswith("telemetry.")}
