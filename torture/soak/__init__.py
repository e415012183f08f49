"""Whether a server that runs for long stays as it is: `python -m torture.soak`.

A server takes a realistic mixture for an hour at half of what it can sustain: many projects, batches of all sizes,
copies, bad events, and queries now and then. Every few seconds it is looked at from outside: memory, descriptors and
threads of each process, files and bytes of each part of the data folder, and its own metrics.

What must stay flat is named with the growth that is tolerated, in one table (`torture.soak.series`). Events fill the
lake and the index of identities, so some series grow by design: those are shown and not judged. At the end the
oracle says whether everything is stored, exactly once.
"""
