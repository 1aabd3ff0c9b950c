"""How many examples a law is tried on, and what is printed when one breaks it."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "laws",
    max_examples=1000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
