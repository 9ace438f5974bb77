"""Properties are tried on the same examples every time, and never judged by a clock; a guard's thread ends with the guard."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.ecso.factories import portals

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("steady")


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Fails a test that leaves a guard's thread behind."""
    yield
    if portals():
        gc.collect()
    assert portals() == []
