"""Asks the public databases of advisories about every package in requirements-dev.txt, which are all, with pip-audit.

    scripts/audit_dependencies.py FOLDER_OF_PIP_AUDIT [--strict]

Exit status 1 where a package has a known vulnerability. Where no database could be reached, or some packages could not
be looked up, it says so and what is not known; with --strict that is exit status 3, otherwise 0, so that a machine
without a way out can still run the gate.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

REQUIREMENTS = Path(__file__).parent.parent / "requirements-dev.txt"
SERVICES = ("pypi", "osv")
TIMEOUT_S = 300


class Audit(NamedTuple):
    """What one database said: advisories by package, packages it knows nothing about, and how many it was asked."""

    service: str
    found: dict[str, list[str]]
    unknown: list[str]
    asked: int


def audit(pip_audit: Path, service: str) -> Audit | None:
    """Asks one database about every pinned package; None where it could not be reached."""
    command = [pip_audit, "--requirement", REQUIREMENTS, "--disable-pip", "--require-hashes", "--timeout", "15"]
    options = ["--vulnerability-service", service, "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(
        [*map(str, command), *options], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        sys.stderr.write(f"{service} could not be asked: {last[:300]}\n")
        return None
    return read_report(service, packages)


def read_report(service: str, packages: list[dict[str, object]]) -> Audit:
    """What a report of pip-audit says; a package that was skipped is one that nothing is known about."""
    found = {str(package["name"]): _ids(package) for package in packages if package.get("vulns")}
    unknown = [str(package["name"]) for package in packages if "skip_reason" in package]
    return Audit(service, found, unknown, len(packages))


def _ids(package: dict[str, object]) -> list[str]:
    vulnerabilities = package["vulns"]
    assert isinstance(vulnerabilities, list)
    return [str(vulnerability["id"]) for vulnerability in vulnerabilities]


def judge(audits: list[Audit], *, strict: bool) -> tuple[int, str]:
    """The exit status and the sentence for what the databases said."""
    found = {name: ids for audit in audits for name, ids in audit.found.items()}
    if found:
        listed = "; ".join(f"{name}: {', '.join(ids)}" for name, ids in sorted(found.items()))
        return 1, f"VULNERABLE: {listed}. Raise the version in pyproject.toml and run `make lock`."
    complete = [audit for audit in audits if audit.asked and not audit.unknown]
    if complete:
        return 0, f"{complete[0].service} knows of no vulnerability in {complete[0].asked} packages."
    partly = max(audits, key=lambda audit: audit.asked - len(audit.unknown), default=None)
    looked_up = f"{partly.asked - len(partly.unknown)} of {partly.asked}" if partly else "no"
    sentence = f"NOT AUDITED: {looked_up} packages could be looked up. Run it where pypi.org or osv.dev answers."
    return (3 if strict else 0), sentence


def main() -> int:
    """Asks one database after the other until one knows every package; the exit status."""
    audits: list[Audit] = []
    for service in SERVICES:
        answer = audit(Path(sys.argv[1]) / "pip-audit", service)
        audits += [answer] if answer else []
        if answer and not answer.unknown:
            break
    status, sentence = judge(audits, strict="--strict" in sys.argv)
    sys.stdout.write(f"Dependency audit: {sentence}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
