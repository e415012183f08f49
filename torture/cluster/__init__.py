"""Attacks on the distributed form: three brokers, two nodes that take events, two that load, and a console.

Kafka, the S3 server, PostgreSQL and Redis are those of the package `services`; each node of Kixo has a data folder of
its own. Clients repeat at the other node when one does not answer. The oracle is that of one machine, with the tables
read over S3. Each attack makes a cluster of its own and ends it.
"""
