"""What can go wrong: something is not installed, or does not start."""


class Missing(Exception):
    """A part is not on this machine; the message says which, and how to get it."""


class NotStarted(Exception):
    """A service ended or stayed silent; the message holds its last words."""
