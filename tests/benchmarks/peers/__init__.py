"""miniasgi beside other ASGI servers: `python -m tests.benchmarks.peers`; ../README.md says what is measured.

__main__.py      the command: servers and workloads in turns
servers.py       the servers: their command lines, their processes, what /proc says of them
workloads.py     what is measured, and how each server's answer is verified before
traffic.py       the bytes of the requests
load.py          who asks: wrk, and clients of the benchmark's own where wrk cannot
applications.py  what is served; frameworks.py: the same by Starlette, FastAPI and Django
canned.py        the limit: a protocol that parses nothing
report.py        tables and files; plot.py: the SVG
"""
