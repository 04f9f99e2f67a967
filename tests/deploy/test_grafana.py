"""The dashboards ask for what there is: every query is run, and every metric is one that the code declares."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from schemas.outbound import Record
from sinks.postgres import Writer, refresh
from tests.fix_postgres import batch_of, do, name_of
from tests.grafana_records import TENANT, day_of_records
from tests.postgres_records import START

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
UIDS = {
    "operators.json": "attune-operators",
    "audience.json": "attune-audience",
    "interventions.json": "attune-interventions",
}
SINCE, UNTIL = (datetime.fromtimestamp(START / 1000 + hours * 3600, UTC) for hours in (-1, 23))


def dashboards() -> dict[str, Any]:
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (FOLDER / "dashboards").iterdir()}


def panels(dashboard: Any) -> list[Any]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@dataclass(frozen=True)
class Query:
    """A question to the database, and where it stands."""

    place: str
    sql: str
    format: str


def queries() -> Iterator[Query]:
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                if "rawSql" in target:
                    yield Query(f"{name}: {panel['title']}", target["rawSql"], target["format"])
        for variable in dashboard["templating"]["list"]:
            if isinstance(variable["query"], str):
                yield Query(f"{name}: variable {variable['name']}", variable["query"], "variable")


def expressions() -> Iterator[tuple[str, str]]:
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                if "expr" in target:
                    yield f"{name}: {panel['title']}", target["expr"]


def expanded(sql: str, bucket: str) -> str:
    """Return what Grafana makes of its macros and variables; ``bucket`` is its way to cut time."""
    since, until = (f"'{moment.isoformat()}'" for moment in (SINCE, UNTIL))
    sql = sql.replace("$__interval", "5m")
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {since} AND {until}", sql)
    sql = re.sub(r"\$__timeGroupAlias\((\w+), '?\d+[mh]'?\)", rf'{bucket} AS "time"', sql)
    sql = sql.replace("$__timeFrom()", since).replace("$__timeTo()", until)
    sql = sql.replace("${tenant:sqlstring}", f"'{TENANT}', 'another'").replace("${session:sqlstring}", "'session-1'")
    assert "$" not in sql, f"a macro or variable that this test does not know: {sql}"
    return sql


def declared() -> dict[str, set[str]]:
    """Return every series that a flow's process offers, with its labels."""
    for package in ("operators", "sources", "sinks", "flows"):
        for module in pkgutil.walk_packages([str(FOLDER.parents[1] / package)], f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found: dict[str, set[str]] = {}
    for collector, names in REGISTRY._collector_to_names.items():  # its public side leaves out labels without a value
        labels = set(getattr(collector, "_labelnames", ()))
        found |= {name: labels | {"instance", "job"} for name in names}
        found |= {name: labels | {"instance", "job", "le"} for name in names if name.endswith("_bucket")}
    return found


@pytest.fixture
def viewer(db: str, login: str) -> str:
    """Return the login that Grafana uses: an analyst's, in a database with a day of records."""
    writer = Writer(db)
    records: list[list[Record]] = day_of_records()
    written = writer.write([batch_of(each) for each in records])
    writer.close()
    assert not written.refused
    refresh(db)
    do(db, f"CALL attune_admit_analyst('{name_of(login)}', '{TENANT}')")
    return login


def test_each_has_its_uid_for_good() -> None:
    assert {name: dashboard["uid"] for name, dashboard in dashboards().items()} == UIDS


def test_panels_have_a_number_and_a_place_of_their_own_and_say_what_they_show() -> None:
    for name, dashboard in dashboards().items():
        numbers = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(numbers)) == len(numbers), name
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            grid = panel["gridPos"]
            assert grid["x"] + grid["w"] <= 24
            cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
            assert not cells & taken, f"{name}: {panel['title']} lies over another"
            taken |= cells
        assert all(panel["description"] for panel in panels(dashboard)), name


def test_data_comes_from_what_is_provisioned() -> None:
    provisioned = (FOLDER / "provisioning" / "datasources" / "attune.yaml").read_text(encoding="utf-8")
    sources = dict(re.findall(r"^    uid: (\S+)\n    type: (\S+)$", provisioned, re.MULTILINE))
    assert len(sources) == 2
    for dashboard in dashboards().values():
        used = [panel["datasource"] for panel in panels(dashboard)]
        used += [target["datasource"] for panel in panels(dashboard) for target in panel["targets"]]
        used += [variable["datasource"] for variable in dashboard["templating"]["list"]]
        assert all(sources[source["uid"]] == source["type"] for source in used)


def test_every_metric_is_declared_with_the_labels_that_are_asked_for() -> None:
    known = declared()
    asked = 0
    for place, expr in expressions():
        names = re.findall(r"\b(?:attune|process)_\w+", expr)
        assert names, place
        labels = set(re.findall(r"(\w+)=~?\"", expr))
        labels |= {label for group in re.findall(r"by \(([\w, ]+)\)", expr) for label in group.split(", ")}
        for name in names:
            assert name in known, f"{place}: {name} is declared nowhere"
            assert labels <= known[name], f"{place}: {name} has no {labels - known[name]}"
            asked += 1
        assert expr.count("(") == expr.count(")"), place
    assert asked > 30


def test_the_legends_name_labels_that_are_left() -> None:
    for dashboard in dashboards().values():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                named = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
                if grouped := re.search(r"by \(([\w, ]+)\)", target.get("expr", "")):
                    assert named <= set(grouped[1].split(", ")), panel["title"]


NUMBERS = {"int2", "int4", "int8", "float4", "float8", "numeric"}
TIMES = {"timestamptz", "timestamp", *NUMBERS}


@pytest.mark.parametrize("extension", [False, True], ids=["plain", "TimescaleDB"])
def test_every_query_runs_as_grafana_and_finds_what_was_written(
    viewer: str, extension: bool, request: pytest.FixtureRequest
) -> None:
    bucket = r"time_bucket('300s', \1)" if extension else r"floor(extract(epoch from \1)/300)*300"
    with psycopg.connect(viewer, autocommit=True) as connection:
        if extension and not connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchall():
            pytest.skip("optional: the server has no TimescaleDB")
        connection.execute("SET timezone = 'America/St_Johns'")  # nobody promised Grafana's login UTC
        for query in queries():
            cursor = connection.execute(expanded(query.sql, bucket).encode())
            columns = cursor.description or []
            kinds = {column.name: connection.adapters.types[column.type_code].name for column in columns}
            assert cursor.fetchall() or "now()" in query.sql, f"{query.place}: nothing was found"
            if query.format == "time_series":
                assert columns[0].name == "time", query.place
                assert kinds.pop("time") in TIMES, query.place
                assert set(kinds.pop("metric", "text").split()) <= {"text"}, query.place
                assert kinds, f"{query.place}: no value"
                assert set(kinds.values()) <= NUMBERS, query.place


def test_an_outsider_sees_nothing(viewer: str, db: str) -> None:
    do(db, "DELETE FROM attune_analysts")
    with psycopg.connect(viewer, autocommit=True) as connection:
        for query in queries():
            rows = connection.execute(expanded(query.sql, r"date_trunc('hour', \1)").encode()).fetchall()
            assert all(value in (None, 0) for row in rows for value in row if not isinstance(value, str)), query.place
