"""Under CI a skipped test is a failed test: what was not run has not been shown.

A reason that begins with ``optional:`` names a test that a machine may lawfully lack the means for; only these may be
skipped. On a developer's machine (``CI`` unset) every skip is allowed.
"""

import os
from collections.abc import Generator

import pytest

ALLOWED = "optional:"


def is_ci(environment: dict[str, str]) -> bool:
    """Return whether this run must skip nothing.

    >>> is_ci({"CI": "true"}), is_ci({"CI": "false"}), is_ci({})
    (True, False, False)
    """
    return environment.get("CI", "").lower() in ("1", "true", "yes")


def refusal(longrepr: object) -> str | None:
    """Return why a skip is refused, or None if its reason allows it.

    pytest gives a skip as ``(file, line, "Skipped: reason")``.

    >>> refusal(("test_a.py", 3, "Skipped: optional: no browser")) is None
    True
    >>> refusal(("test_a.py", 3, "Skipped: no Kafka"))
    "test_a.py:3: skipped under CI: 'no Kafka' (a reason that may skip begins with 'optional:')"
    """
    if not isinstance(longrepr, tuple):
        return f"skipped under CI without a reason: {longrepr}"
    file, line, message = longrepr
    reason = str(message).removeprefix("Skipped: ")
    if reason.startswith(ALLOWED):
        return None
    return f"{file}:{line}: skipped under CI: {reason!r} (a reason that may skip begins with {ALLOWED!r})"


def _fail_if_refused(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome != "skipped" or hasattr(report, "wasxfail") or not is_ci(dict(os.environ)):
        return
    if why := refusal(report.longrepr):
        report.outcome = "failed"
        report.longrepr = why


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a test's refused skip into a failure, after pytest has located it."""
    report = yield
    _fail_if_refused(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the refused skip of a whole module into a failure."""
    report = yield
    _fail_if_refused(report)
    return report
