"""The rule about skips holds where it must: with and without CI, in one process and in several."""

import pytest

TESTS = """
import pytest


def test_runs():
    pass


@pytest.mark.xfail(strict=True, reason="known")
def test_expected_to_fail():
    assert False


def test_optional():
    pytest.skip("optional: no such device")


@pytest.mark.skipif(True, reason="no Kafka")
def test_by_mark():
    pass


def test_inside():
    pytest.skip("no database")


@pytest.fixture
def server():
    pytest.skip("no server")


def test_by_fixture(server):
    pass
"""
MODULE = """
import pytest

pytest.skip("no module", allow_module_level=True)
"""


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_some=TESTS, test_module=MODULE)
    return pytester


def run(inner: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # The plugin is loaded in this process already, under this name: a run within it shares the module.
    return inner.runpytest_inprocess("-p", "tests.fix_skips", "-rs", "-W", "error", *arguments)


def test_under_ci_only_optional_tests_may_be_skipped(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    result = run(inner)
    result.assert_outcomes(errors=1)  # the module: nothing is run when collection fails
    result.stdout.fnmatch_lines(["*test_module.py:*: skipped under CI: 'no module'*"])
    (inner.path / "test_module.py").unlink()
    result = run(inner)
    result.assert_outcomes(passed=1, xfailed=1, skipped=1, failed=1, errors=2)
    for reason in ("no Kafka", "no database", "no server"):
        result.stdout.fnmatch_lines([f"*test_some.py:*: skipped under CI: '{reason}'*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_several_processes_refuse_the_same(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    result = run(inner, "-n", "1", "--dist", "loadfile")
    result.assert_outcomes(passed=1, xfailed=1, skipped=1, failed=1, errors=3)
    for reason in ("no module", "no Kafka", "no database", "no server"):
        result.stdout.fnmatch_lines([f"*skipped under CI: '{reason}'*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_elsewhere_every_skip_is_allowed(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    result = run(inner)
    result.assert_outcomes(passed=1, xfailed=1, skipped=5)
    assert result.ret == pytest.ExitCode.OK
