"""Measurements, always beside a reference of the same run: machines are shared and noisy."""
