"""The served OpenAPI document says what the collector does: schemathesis tries both against each other."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from sources.collector.config import TOPICS
from sources.collector.openapi import document
from tests.fix_collector import KEY, Collecting

OPERATIONS = [f"{method.upper()} {path}" for path, item in document()["paths"].items() for method in item]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["as told", "otherwise"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_requests_and_answers_are_those_of_the_document(
    collecting: Collecting, name: str, mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_url(f"{collecting.collector.url}openapi.json")
    (operation,) = [found.ok() for found in schema.get_all_operations() if found.ok().label == name]

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(headers={"X-Attune-Key": KEY})

    check()


def test_every_type_that_is_taken_is_described() -> None:
    schemas = document()["components"]["schemas"]
    told = {
        schema["properties"]["type"]["const"]
        for schema in schemas.values()
        if "const" in schema.get("properties", {}).get("type", {})
    }
    told |= {
        kind for schema in schemas.values() for kind in schema.get("properties", {}).get("type", {}).get("enum", [])
    }
    assert told == {kind for kind in TOPICS if kind.startswith("telemetry.")}
