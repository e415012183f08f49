"""`kixo audit`: with `--json`, one object with the members `log_id`, `projects` and `differences`.

A project has `project_id`, `received`, `stored`, `duplicate`, `rejected` and `pending`, which is in the log and not
yet in the tables. A difference is a sentence.
"""

from typing import Annotated

from cyclopts import Parameter

from kixo.audit import AuditReport
from kixo.audit import audit as run_audit
from kixo.cli.options import Json, takes_settings
from kixo.errors import AuditFailed
from kixo.lake.opening import open_lake
from kixo.lake.read import require_lake
from kixo.log.opening import open_log_reader
from kixo.output import print_json, print_line, print_table
from kixo.query import QueryCaps
from kixo.settings import Settings

COLUMNS = ("project", "received", "stored", "duplicate", "rejected", "pending")


@takes_settings("query_memory_bytes_max")
def audit(
    settings: Settings,
    *,
    seconds: Annotated[float, Parameter(help="Seconds that one of its queries may take.")] = 3600.0,
    json: Json = False,
) -> None:
    """Recomputes received = stored + duplicate + rejected from the log and the tables."""
    lake = open_lake(settings)
    require_lake(lake)
    damage: list[str] = []
    reader = open_log_reader(
        settings, lambda sentence, size: damage.append(f"The log reader {sentence} ({size} bytes).")
    )
    caps = QueryCaps(settings.query_memory_bytes_max, seconds)
    try:
        report = run_audit(lake, reader, caps, damage)
    finally:
        reader.close()
    _print(report, json)
    if report.differences:
        raise AuditFailed(
            f"The log and the tables differ in {len(report.differences)} places.",
            "Keep the data folder as it is: nothing in the log is deleted before it is in the tables.",
        )


def _print(report: AuditReport, json: bool) -> None:
    if json:
        print_json(report)
        return
    accounts = [(p.project_id, p.received, p.stored, p.duplicate, p.rejected, p.pending) for p in report.projects]
    print_table(COLUMNS, accounts)
    for difference in report.differences:
        print_line(f"DIFFERENCE {difference}")
    if not report.differences:
        pending = sum(project.pending for project in report.projects)
        print_line(f"Every event that was loaded is stored, a duplicate or rejected; {pending} are yet to be loaded.")
