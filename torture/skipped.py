"""What an attack raises that cannot run here."""


class Skipped(Exception):
    """Something that the attack needs is missing; the message says what."""
