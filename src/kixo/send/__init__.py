"""`kixo send`: files of events into a server, as fast as it takes them, and able to go on where it was stopped.

    source ──► shaping ──► gathering ──► lanes ──► delivery ──► ledger
    rows of    row to      batches of    several   one batch:    what came of each row, and up to
    a file     event       one envelope  threads   retry, split  where all before are settled

An event that has no id gets one that follows from its row, so a row that is sent twice counts once.
"""
