"""What a record says of a model."""

from pathlib import Path

import pytest

from llava.errors import UserError
from llava.eval.judge.judges import Spec
from llava.eval.session import evaluate
from tests.eval.runs import plan


@pytest.mark.parametrize("target", ["http://me:secret@[::1/v1", "controller://me:secret@::1]:10000"])
def test_an_address_that_cannot_be_read_is_a_sentence_that_does_not_repeat_it(target: str, tmp_path: Path) -> None:
    for ask in (lambda: evaluate(plan(tmp_path, tmp_path / "out", target)), lambda: Spec.of(f"engine:{target}")):
        with pytest.raises(UserError, match="address cannot be read: it looks like http://host:8000/v1") as caught:
            ask()
        assert "secret" not in str(caught.value)
