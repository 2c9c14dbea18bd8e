"""gRPC, both ways: the only room that knows what travels between processes.

Law: nothing here decides anything of Raft. What comes in is checked and refused before the core
sees it; what goes out was decided elsewhere. Imports `core`, `errors` and `wire`, nothing above.
"""
