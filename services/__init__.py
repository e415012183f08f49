"""Real Kafka, S3, PostgreSQL and Redis for tests and trials, on free ports of loopback, with no container engine.

    scripts/services install                     what they need, on a new machine
    scripts/services start kafka s3 --brokers 3  prints the variables to export
    scripts/services status
    scripts/services stop

Every service is a `Program`: a command that runs by itself, with its files in one temporary folder. What was started is
written down in that folder (`running.json`), so that another process can stop it. Nothing here is fit for data that
somebody wants back: memory is small, and PostgreSQL and Redis do not wait for the disk.

Which S3 server: versitygw, because a table's commits rest on `If-None-Match: *`, and it takes exactly one of several
writers that put the same key at once (`tests/test_services.py` tries it). SeaweedFS's module could not be
fetched by `go install` where this was tried, and MinIO's has not changed since February 2026.
"""
