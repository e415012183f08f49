"""Attacks on a running server, and an oracle outside it that says what became of every event.

`python -m torture` starts servers of its own, sends them events, hurts them, and afterwards compares what each client
was told with what the tables hold. It is no part of the installed package.
"""
