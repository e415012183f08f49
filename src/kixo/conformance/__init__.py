"""The conformance kit: does a client of the Batch API behave? A scripted host, cases as data, and a verdict.

A case (`cases.json`) says which events a client is to track, how the host answers, and what has to become of the
events of each request: sent again, never again, or again in smaller requests. `host` plays the host and writes down
what arrives, `checks` holds that against the case, `driver` runs a client under test, one process for each case.
"""
