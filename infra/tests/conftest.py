"""What holds for all tests of infra/."""

from hypothesis import settings

# Timing never decides a test.
settings.register_profile("infra", deadline=None)
settings.load_profile("infra")
