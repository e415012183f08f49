"""Where the lake and the loader say what happened: anything with structlog's three methods."""

from typing import Any, Protocol


class Report(Protocol):
    """A structured log: a sentence, and members that give its numbers."""

    def info(self, event: str, **members: Any) -> Any:
        """Something of use to know happened."""
        ...

    def warning(self, event: str, **members: Any) -> Any:
        """Something is wrong and is being dealt with."""
        ...

    def error(self, event: str, **members: Any) -> Any:
        """Something is wrong and somebody should look."""
        ...
