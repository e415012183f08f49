"""`kixo bench`: drive a server with realistic traffic and say what it does, next to what the machine could do.

The parts: `traffic` makes requests, `driver` sends them from a process of its own, `floor` is the same HTTP server
with nothing stored, `decoding` costs the typed decode alone, `processes` reads CPU and memory of the server,
`probe` watches events appear, `subject` starts and stops the server, `scenarios` puts these together, and
`report` compares with the figures that are due.
"""
