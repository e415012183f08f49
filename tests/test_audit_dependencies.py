"""The audit of dependencies says what is known, and never takes silence for safety."""

from scripts.audit_dependencies import Audit, judge, read_report

KNOWN: dict[str, object] = {"name": "a", "version": "1", "vulns": []}
VULNERABLE: dict[str, object] = {"name": "b", "version": "1", "vulns": [{"id": "PYSEC-1"}]}
SKIPPED: dict[str, object] = {"name": "c", "skip_reason": "not found"}


def test_a_vulnerable_package_fails_and_is_named() -> None:
    status, sentence = judge([read_report("pypi", [KNOWN, VULNERABLE, SKIPPED])], strict=False)
    assert (status, "b: PYSEC-1" in sentence) == (1, True)


def test_packages_that_were_all_looked_up_pass() -> None:
    assert judge([read_report("pypi", [KNOWN])], strict=True) == (0, "pypi knows of no vulnerability in 1 packages.")


def test_what_could_not_be_looked_up_is_said_and_fails_where_that_is_asked_for() -> None:
    for audits in ([], [read_report("pypi", [KNOWN, SKIPPED])], [read_report("pypi", [])]):
        assert judge(audits, strict=True)[0] == 3
        status, sentence = judge(audits, strict=False)
        assert (status, sentence.startswith("NOT AUDITED")) == (0, True)


def test_another_database_that_knows_all_is_enough() -> None:
    assert judge([Audit("pypi", {}, ["c"], 2), Audit("osv", {}, [], 2)], strict=True)[0] == 0
