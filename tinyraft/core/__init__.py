"""Raft as a pure function of its inputs.

Nothing here waits, locks, logs, or reads a clock, a file, a socket or chance that it was not
handed. Events go in as method calls of `raft.Raft`, what is to be done comes out as
`effects.Effects`.
"""
