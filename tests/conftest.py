from hypothesis import settings

# The same examples at every run: a failing one is a finding, not a matter of luck. `make soak` looks for new ones.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")
