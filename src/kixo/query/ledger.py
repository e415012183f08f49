"""The queries of an audit, each with a sentence: the ledger `loads` held against the rows of `events` and `rejected`.

The ledger has a row for each load, partition and project, so the offsets from `first_offset` to `end_offset` occur
once for every project. *Spans* are these ranges, each once. Rows of the tables carry an offset but no log id; should
the lake hold rows of two logs, spans of both can overlap, and those that do are counted as one *stretch*. With one
log, a stretch is a span.

What one table holds beyond the common position belongs to a load that is under way, and is left out. *Reach* is that
position, or where an older log's spans end if that is further.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kixo.query.views import quote

# Differences of one kind that are told one by one.
SHOWN_MAX = 100
# Bytes that DuckDB needs to group 16-byte identities, for each row: measured 95 at 5 M rows, taken with a margin.
IDENTITY_ROW_BYTES = 160


@dataclass(frozen=True)
class Bounds:
    """How far an audit looks: the log, and by partition the position that all three tables have reached."""

    log_id: str
    positions: Mapping[int, int]

    def tables(self) -> str:
        """The common table expressions that every query below starts with."""
        rows = ", ".join(f"({partition}, {position})" for partition, position in self.positions.items())
        found = f"VALUES {rows}" if rows else "SELECT 0, 0 WHERE false"
        return f"""
            WITH positions(log_partition, position) AS ({found}),
            judged AS (
                SELECT loads.*
                FROM loads LEFT JOIN positions USING (log_partition)
                WHERE log_id <> {quote(self.log_id)} OR end_offset <= coalesce(position, 0)
            ),
            spans AS (SELECT DISTINCT log_id, log_partition, first_offset, end_offset FROM judged),
            reaches AS (
                SELECT log_partition, max(reach) AS reach
                FROM (FROM positions UNION ALL SELECT log_partition, end_offset FROM spans) AS e(log_partition, reach)
                GROUP BY log_partition
            )
        """


def partitions() -> str:
    """The log partitions that the ledger names."""
    return "SELECT DISTINCT log_partition FROM loads"


def totals(bounds: Bounds) -> str:
    """What the ledger says of each project."""
    return f"""{bounds.tables()}
        SELECT
            project_id,
            sum(received)::BIGINT AS received,
            sum(stored)::BIGINT AS stored,
            sum(duplicate)::BIGINT AS duplicate,
            sum(rejected)::BIGINT AS rejected
        FROM judged GROUP BY project_id
    """


def row_counts(bounds: Bounds, table: str) -> str:
    """How many rows of a table each project has, below the position."""
    return f"""{bounds.tables()}
        SELECT project_id, count(*) AS found
        FROM {table} LEFT JOIN reaches USING (log_partition)
        WHERE coalesce(log_offset < reach, true)
        GROUP BY project_id
    """


def unbalanced(bounds: Bounds) -> str:
    """Rows of the ledger in which received is not stored + duplicate + rejected, or a count is negative."""
    return f"""{bounds.tables()}
        SELECT log_partition, first_offset, end_offset, project_id, received, stored, duplicate, rejected
        FROM judged
        WHERE received <> stored + duplicate + rejected OR least(stored, duplicate, rejected) < 0
        ORDER BY ALL LIMIT {SHOWN_MAX}
    """


def overlaps(bounds: Bounds) -> str:
    """Spans of one log that begin before an earlier one of their partition ends: events counted twice."""
    return f"""{bounds.tables()}
        SELECT log_partition, first_offset, end_offset, previous_end
        FROM (
            SELECT *, max(end_offset) OVER (
                PARTITION BY log_id, log_partition ORDER BY first_offset, end_offset
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS previous_end
            FROM spans
        )
        WHERE first_offset < previous_end
        ORDER BY ALL LIMIT {SHOWN_MAX}
    """


def misplaced(bounds: Bounds, table: str, column: str) -> str:
    """Stretches and projects for which the ledger's `column` is not the number of rows of `table`.

    Rows that lie in no stretch come with a null `end_offset` and the lowest of their offsets.
    """
    return f"""{bounds.tables()},
        chained AS (
            SELECT *, max(end_offset) OVER (
                PARTITION BY log_partition ORDER BY first_offset, end_offset
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS previous_end
            FROM spans
        ), linked AS (
            SELECT *, count(*) FILTER (previous_end IS NULL OR first_offset >= previous_end) OVER (
                PARTITION BY log_partition ORDER BY first_offset, end_offset
            ) AS stretch
            FROM chained
        ), stretches AS (
            SELECT log_partition, min(first_offset) AS start_offset, max(end_offset) AS stop_offset
            FROM linked GROUP BY log_partition, stretch
        ), recorded AS (
            SELECT j.log_partition, start_offset, stop_offset, project_id, sum({column})::BIGINT AS expected
            FROM judged AS j ASOF JOIN stretches AS s
                ON j.log_partition = s.log_partition AND j.first_offset >= s.start_offset
            GROUP BY ALL
        ), requests AS (
            SELECT log_partition, log_offset, project_id, count(*) AS events FROM {table} GROUP BY ALL
        ), placed AS (
            SELECT r.*, start_offset, stop_offset, log_offset < stop_offset AS inside
            FROM requests AS r ASOF LEFT JOIN stretches AS s
                ON r.log_partition = s.log_partition AND r.log_offset >= s.start_offset
        ), counted AS (
            SELECT log_partition, start_offset, project_id, sum(events)::BIGINT AS found
            FROM placed WHERE inside GROUP BY ALL
        ), lost AS (
            SELECT placed.log_partition, min(log_offset) AS start_offset, project_id, sum(events)::BIGINT AS found
            FROM placed LEFT JOIN reaches USING (log_partition)
            WHERE inside IS NOT true AND coalesce(log_offset < reach, true)
            GROUP BY placed.log_partition, project_id
        )
        SELECT log_partition, start_offset, stop_offset, project_id,
            coalesce(expected, 0) AS expected, coalesce(found, 0) AS found
        FROM recorded FULL JOIN counted USING (log_partition, start_offset, project_id)
        WHERE coalesce(expected, 0) <> coalesce(found, 0)
        UNION ALL
        SELECT log_partition, start_offset, NULL, project_id, 0, found FROM lost
        ORDER BY ALL LIMIT {SHOWN_MAX}
    """


def copies(passes: int, number: int) -> str:
    """Identities that more than one row of `events` has, exactly: those of one pass out of `passes`.

    Each pass groups its share of the identities, so that a share fits in memory however large the table is.
    """
    return f"""
        WITH copied AS (
            SELECT identity FROM events WHERE hash(identity) % {passes} = {number}
            GROUP BY identity HAVING count(*) > 1
        )
        SELECT project_id, hex(identity) AS identity, count(*) AS found
        FROM events SEMI JOIN copied USING (identity)
        GROUP BY ALL ORDER BY ALL LIMIT {SHOWN_MAX}
    """


def copy_passes(rows: int, memory_bytes: int) -> int:
    """How many passes `copies` needs over so many rows to stay within half of the memory."""
    return max(1, -(-rows * IDENTITY_ROW_BYTES // (memory_bytes // 2)))


def received_since(bounds: Bounds, offsets: Mapping[int, int]) -> str:
    """What the ledger says was received, by span and project, of this log's spans that reach beyond `offsets`."""
    beyond = " OR ".join(
        f"(log_partition = {partition} AND end_offset > {offset})" for partition, offset in offsets.items()
    )
    return f"""{bounds.tables()}
        SELECT log_partition, first_offset, end_offset, project_id, sum(received)::BIGINT AS received
        FROM judged WHERE log_id = {quote(bounds.log_id)} AND ({beyond or "false"})
        GROUP BY ALL
    """
