"""What the backends have in common whose library runs in a process of its own, an instance each.

A fault of such a library (a segfault, memory without end) costs its instance a restart, never the server; the way
there and back is that of python models. `backend` is on the server's side, the rest in the process.

backend     opens instances: a python instance whose class is one of ours
configured  the model's configuration as its process is told it
batch       the requests of an execution as one batch of arrays, and its results as each request's share
model       the class that a process runs: load, then execute batches
"""
