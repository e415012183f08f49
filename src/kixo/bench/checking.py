"""Whether a server holds exactly what it has accepted."""

from dataclasses import dataclass

from kixo.bench.options import Finding
from kixo.bench.subject import Subject
from kixo.bench.trial import Trial


@dataclass
class Sent:
    """Events over all drives of a server: answered as accepted, and sent with no answer, which may be there or not."""

    accepted: int = 0
    unknown: int = 0

    def add(self, trial: Trial) -> None:
        """Counts a drive."""
        self.accepted += trial.done.accepted
        self.unknown += trial.done.unknown_events

    def fits(self, found: int) -> bool:
        """Whether so many events are what there should be."""
        return self.accepted <= found <= self.accepted + self.unknown


def check_table(server: Subject, sent: Sent, finding: Finding) -> None:
    """Waits for the loader, then counts the rows and runs the audit."""
    drain_s = server.drain(sent.accepted)
    finding.checks["everything accepted is loaded"] = drain_s is not None
    rows = server.rows()
    finding.figures |= {"accepted_events": sent.accepted, "table_rows": rows}
    finding.checks["the table holds exactly what was accepted"] = sent.fits(rows)
    finding.checks["kixo audit accounts for every event"] = server.audit()
    _check_processes(server, finding)


def check_log(server: Subject, sent: Sent, finding: Finding) -> None:
    """Counts the events in the log, for a server that has no loader."""
    logged = server.logged()
    finding.figures |= {"accepted_events": sent.accepted, "logged_events": logged}
    finding.checks["the log holds exactly what was accepted"] = sent.fits(logged)
    _check_processes(server, finding)


def _check_processes(server: Subject, finding: Finding) -> None:
    finding.checks["no process of the server had to be started again"] = server.restarts() == 0
