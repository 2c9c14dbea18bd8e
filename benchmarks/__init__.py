"""Measurements, always beside a reference of the same run: machines are shared and noisy.

Law: only figures of one interleaved run are compared with each other. Everything that is started
is ended, all of it listens on loopback, and nothing runs without a limit in time.
"""
