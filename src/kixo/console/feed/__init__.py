"""Events as they arrive, for people who watch: one thread follows the log for all of them, while there are any.

    log ──► preview ──► follower (a thread) ──► a bounded queue per watcher ──► server-sent events
             heads only      filters, samples       drops, and says so

What it may cost is bounded, for ten thousand events a second can arrive and nobody reads that many: of each frame the
head is read, payloads are searched as bytes, and only some of those that can match are decoded. What is shown of more
is a sample and says so; a filter still finds the one event among many thousands that somebody waits for.
"""
