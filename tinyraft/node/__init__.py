"""The shell: the only place with threads and locks.

Every component is two halves around one blocking call, and its thread only glues them, so that a
simulator can call the halves. Lock order: the core's lock, then a leaf; the module mutex is held
alone. Decide under the lock, act outside it.
"""
