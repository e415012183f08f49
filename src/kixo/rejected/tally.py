"""What a replay came to, counted."""

from collections import Counter

from msgspec import Struct

from kixo.rejected.reading import Part


class Reason(Struct, frozen=True):
    """Why so many events are still rejected; `message` is that of one of them."""

    code: str
    field: str | None
    events: int
    message: str


class Summary(Struct, frozen=True):
    """What a replay came to, in events. `first_offset` is where its frames begin, None where nothing was written."""

    replayed: int
    replayed_before: int
    rejected: int
    reasons: list[Reason]
    first_offset: int | None


class Tally:
    """Counts what becomes of events. `first_offset` is the writer's, where there is one."""

    def __init__(self) -> None:
        self.first_offset: int | None = None
        self._outcomes: Counter[str] = Counter()
        self._reasons: Counter[tuple[str, str | None]] = Counter()
        self._messages: dict[tuple[str, str | None], str] = {}

    def take(self, part: Part) -> None:
        """Counts a part."""
        for judgement in part.judgements:
            self._outcomes[judgement.outcome] += 1
            if judgement.outcome == "rejected" and judgement.refusal is not None:
                reason = judgement.refusal.code, judgement.refusal.field
                self._reasons[reason] += 1
                self._messages.setdefault(reason, judgement.refusal.message)

    def summary(self) -> Summary:
        """The counts so far."""
        reasons = [
            Reason(code, field, events, self._messages[code, field])
            for (code, field), events in self._reasons.most_common()
        ]
        replayed, before, rejected = (self._outcomes[name] for name in ("replayed", "replayed_before", "rejected"))
        return Summary(replayed, before, rejected, reasons, self.first_offset if replayed else None)
