"""The log in Kafka: one topic, in which a project's requests are in the partition that `partition_of` names.

A record is a frame (`record`), its offset is Kafka's. The topic's own id is the log's id, so that a topic that was
deleted and made again is another log. What was loaded stays as long as the topic keeps it; only the positions in the
tables say what was loaded.
"""
