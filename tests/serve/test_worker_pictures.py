"""A picture that the gateway takes comes through a worker, whatever file it travels as."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image as PIL

from llava.chat import Call, Chat, Image
from llava.cluster.wire import request_of
from llava.engines import ScriptedEngine
from llava.image import MAX_BYTES
from llava.serve import controller, model_worker
from llava.serve.worker import Bounds, Worker
from tests.factories import image
from tests.serve.asgi import post
from tests.serve.cluster import VICUNA, events


def photo() -> Image:
    """As telephones take them: a JPEG that stands upright by a tag only, and much smaller than its pixels as a PNG."""
    noise = PIL.frombytes("RGB", (2200, 2000), random.Random(0).randbytes(3 * 2200 * 2000))
    upright = PIL.Exif()
    upright[0x0112] = 6
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG", quality=75, exif=upright)
    return Image.open(buffer.getvalue())


def test_a_small_jpeg_that_travels_as_a_large_png_is_taken() -> None:
    picture = photo()
    assert len(picture.file()) > MAX_BYTES
    engine = ScriptedEngine(["A cat."])
    app = model_worker.create_app(Worker(engine, ("tiny",), VICUNA), model_worker.Config())
    answer = post(app, "/worker_generate_stream", request_of(Call("answer", Chat.ask("What?", [picture])), "tiny", VICUNA))
    assert events(answer.content)[-1]["error_code"] == 0
    assert engine.seen[0].chat.images == (picture,)


def test_a_picture_that_comes_with_each_step_is_decoded_once_and_kept_within_bounds() -> None:
    def seen(bounds: Bounds) -> list[Image]:
        engine = ScriptedEngine(lambda _: "A cat.")
        app = model_worker.create_app(Worker(engine, ("tiny",), VICUNA, bounds), model_worker.Config())
        for step in ("answer", "check", "caption"):
            asked = Call(step, Chat.ask("What?", [image(), image("blue")]))
            assert events(post(app, "/worker_generate_stream", request_of(asked, "tiny", VICUNA)).content)[-1]["error_code"] == 0
        return [picture for call in engine.seen for picture in call.chat.images]

    known, fresh = seen(Bounds()), seen(Bounds(kept=0))
    assert known == fresh == [image(), image("blue")] * 3
    assert len(set(map(id, known))) == 2
    assert len(set(map(id, fresh))) == 6


def test_the_file_of_a_picture_is_written_once_for_all_steps() -> None:
    picture = photo()
    first, second = (request_of(Call(step, Chat.ask("What?", [picture])), "tiny", VICUNA) for step in ("answer", "check"))
    small = [request_of(Call(step, Chat.ask("What?", [image()])), "tiny", VICUNA)["images"][0] for step in ("answer", "check")]
    assert first["images"] == second["images"]
    assert small[0] is small[1]


@pytest.mark.parametrize("config", [controller.Config(), model_worker.Config()], ids=["controller", "worker"])
def test_the_most_that_a_call_may_have_fits_into_a_body(config: controller.Config | model_worker.Config) -> None:
    bounds = Bounds()
    pictures = 4 * bounds.pixels  # three bytes for each of them, in base64; noise does not compress
    texts = 2 * 12 * bounds.text  # as a prompt string and as messages; JSON writes some characters as twelve
    assert pictures + texts < config.caps.body
