"""Settings for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Shared and small machines stall for seconds: time is pytest-timeout's business, not hypothesis's.
settings.register_profile(
    "tinyraft", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tinyraft")
