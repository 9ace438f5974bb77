"""Properties are tried on the same examples every time, and never judged by a clock."""

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("steady")
