"""Rejected events: which there are, what is wrong with them, and how they come in after a fix.

A *replay* judges events of the `rejected` table again, by the present rules and with the changes that an operator
gives, and writes those that now pass to the log, in a partition of its own. A frame holds events of one request and
has the times of that request, so that the clock rules give what they would have given then; the loader treats it as
any other.

Why no event is lost or counted twice, whenever a replay ends and however often it is repeated:

- An event keeps the identity that it would have had in its request, so the loader takes a second one for a copy.
- What was replayed is recorded, and not replayed again, not even with another change. The record is written after
  the frames are durable; what a crash kept from it is read from the log when the next replay opens the partition.
  The log still has it: a segment goes only when another one follows, and none does before the record is written.
- One replay writes at a time: the partition has a lock.
"""
