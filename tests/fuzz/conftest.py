"""How many inputs each reader gets: some in the tests, a hundred thousand in ``make fuzz``."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick", max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
settings.register_profile("fuzz", settings.get_profile("quick"), max_examples=int(os.environ.get("FUZZ", 100_000)))
