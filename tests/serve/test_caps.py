"""Limits of a request as options: whole where they count, and never no limit by mistake."""

import pytest

from llava.errors import UserError
from llava.serve.caps import capped
from llava.serve.gateway.content import Limits
from llava.serve.limits import Caps
from llava.serve.worker import CAPS, Bounds


def test_a_cap_goes_where_its_name_is_and_keeps_its_kind() -> None:
    limits, caps = capped(["pixels=5e7", "body_seconds=2", "depth=8"], Limits(), Caps())
    assert (limits, caps) == (Limits(pixels=50_000_000), Caps(body_seconds=2.0, depth=8))
    assert isinstance(limits.pixels, int)
    assert isinstance(caps.body_seconds, float)


@pytest.mark.parametrize(
    "word", ["depth=2.5", "depth=NaN", "depth=-1", "depth=1e999", f"body_seconds=1{'0' * 400}", "depth=true", "depth=x"]
)
def test_what_is_no_limit_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="A cap looks like images=4"):
        capped([word], Limits(), Caps())


def test_only_what_belongs_to_a_request_is_a_workers_cap() -> None:
    assert capped(["images=9"], Bounds(), only=CAPS) == (Bounds(images=9),)
    with pytest.raises(UserError, match=r"Unknown cap .*running"):
        capped(["running=9"], Bounds(), only=CAPS)
