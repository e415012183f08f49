"""The public port: an RSGI application that takes batches and nothing else."""
