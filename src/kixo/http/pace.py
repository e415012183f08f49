"""How long the answers to large refused requests are held back, so that sending them costs their sender time as well.

A request of a thousand events over its project's limit has to be read and opened before it can be refused, which takes
longer than answering a small one. Who floods with such requests waits for each answer before the next request, on each
connection; so the answers of one project leave one after the other, with a gap. A client that keeps to the limit, or
waits as it is told, never notices. What was read is given back before its answer waits.
"""

GAP_S = 0.01
WAIT_S_MAX = 1.0
# Projects that are remembered before those whose turn is over are forgotten.
PROJECTS_KEPT = 1024


class RefusalPace:
    """When each project's next large refusal may be answered. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._next_s: dict[str, float] = {}

    def wait_s(self, project_id: str, now_s: float) -> float:
        """The seconds that this answer waits: none for the first, at most `WAIT_S_MAX`; `now_s` only rises."""
        if len(self._next_s) >= PROJECTS_KEPT:
            self._next_s = {project: due for project, due in self._next_s.items() if due > now_s}
        due_s = min(max(self._next_s.get(project_id, now_s), now_s), now_s + WAIT_S_MAX)
        self._next_s[project_id] = due_s + GAP_S
        return due_s - now_s
