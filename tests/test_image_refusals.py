"""Images over a limit, damaged files and what is no image: every one refused in a sentence."""

import base64
import io
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PIL

from llava.errors import ImageError
from llava.image import MAX_ASPECT, MAX_BYTES, MAX_PIXELS, MAX_SIDE, Image
from tests.factories import corners, encoded, png_header


def opened(data: bytes) -> Image | None:
    """The image, or None where it is refused as it should be."""
    try:
        return Image.open(data)
    except ImageError as error:
        if not re.match("The image (is|has) .*(damaged|not a readable|pixels|megapixels)", str(error)):
            raise
        return None


# Limits


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((MAX_SIDE + 1, 100), "a side may have at most 8192"),
        ((100, MAX_SIDE + 1), "a side may have at most 8192"),
        ((1, 60000), "1 x 60000 pixels; a side may have at most"),
        ((5000, 5001), "5000 x 5001 pixels; at most 25 megapixels"),
        ((MAX_ASPECT + 1, 1), "differ by at most 200 : 1"),
        ((2, 2 * MAX_ASPECT + 1), "differ by at most 200 : 1"),
        ((10_000, 9_500), "a side may have"),  # where Pillow itself begins to warn
        ((100_000, 100_000), "a side may have"),  # where Pillow itself raises
        ((0, 5), "not a readable|empty"),
    ],
)
def test_sizes_over_a_limit_are_refused_on_the_header(size: tuple[int, int], said: str) -> None:
    with pytest.raises(ImageError, match=said):
        Image.open(png_header(*size))


@pytest.mark.parametrize("kind", ["header", "frame"])
def test_a_gif_over_a_limit_is_refused_on_the_header(kind: str) -> None:
    data = bytearray(encoded(corners(), "GIF", comment=b"a comment block"))
    frame = data.index(b"\x2c\0\0\0\0") + 5
    at = 6 if kind == "header" else frame
    data[at : at + 4] = struct.pack("<HH", 60_000, 60_000)
    with pytest.raises(ImageError, match="60000 x 60000 pixels; a side may have at most"):
        Image.open(bytes(data))


def test_pillow_prints_no_warning_of_its_own_before_our_sentence(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png_header(9700, 9700))
    command = [sys.executable, "-m", "llava.ecso", "--model", "scripted:A cat.|No", "--question", "What is this?", "--image", str(path)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.stderr.count("\n") == 1
    assert found.stderr.endswith("large.png is 9700 x 9700 pixels; a side may have at most 8192. Scale it down.\n")


@pytest.mark.parametrize("size", [(MAX_SIDE, 41), (1, MAX_ASPECT), (MAX_ASPECT, 1), (1, 1), (5000, MAX_PIXELS // 5000)])
def test_sizes_at_a_limit_are_accepted(size: tuple[int, int]) -> None:
    assert Image.open(encoded(PIL.new("1", size))).size == size


def test_a_pillow_image_obeys_the_same_limits() -> None:
    with pytest.raises(ImageError, match="a side may have at most"):
        Image.open(PIL.new("1", (MAX_SIDE + 1, 100)))
    with pytest.raises(ImageError, match="empty"):
        Image(PIL.new("RGB", (0, 0)))


def test_too_many_bytes_are_refused_from_every_source(tmp_path: Path) -> None:
    data = encoded(corners()) + bytes(MAX_BYTES)
    path = tmp_path / "large.png"
    path.write_bytes(data)
    for source in (data, path, f"data:image/png;base64,{base64.b64encode(data).decode()}"):
        with pytest.raises(ImageError, match="at most 10 MiB"):
            Image.open(source)
    fits = encoded(corners())
    assert Image.open(fits + bytes(MAX_BYTES - len(fits))).size == (40, 20)


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(ImageError, match="at most 10 MiB"):
        Image.open("/dev/zero")


# Bad files


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_file_cut_off_anywhere_is_refused_or_still_whole(kind: str) -> None:
    noise = PIL.effect_noise((64, 64), 90).convert("RGB")
    data = encoded(noise, kind)
    whole = Image.open(data)
    for length in range(0, len(data), max(1, len(data) // 40)):
        assert opened(data[:length]) in (None, whole)  # whole: only the end marker was lost
    with pytest.raises(ImageError):
        Image.open(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@given(st.data())
def test_flipped_bytes_give_an_image_or_a_clear_error(kind: str, data: st.DataObject) -> None:
    broken = bytearray(encoded(corners(), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    opened(bytes(broken))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="not a readable JPEG, PNG, WEBP or GIF image"):
        Image.open(data)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "ICO", "PPM"])
def test_other_formats_are_not_decoded(kind: str) -> None:
    with pytest.raises(ImageError, match="not a readable JPEG, PNG, WEBP or GIF image"):
        Image.open(encoded(corners((16, 16)), kind))


@pytest.mark.parametrize(
    "data", [b"", b"%PDF-1.7", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe", b"GIF89a", b"\xff\xd8\xff"]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="not a readable"):
        Image.open(data)


def test_a_pillow_image_that_cannot_be_decoded_is_refused() -> None:
    with pytest.raises(ImageError, match=r"mode RGB.* damaged"):
        Image.open(PIL.open(io.BytesIO(encoded(corners())[:-40])))
    with pytest.raises(ImageError, match="mode La"):
        Image(PIL.new("La", (2, 2)))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("no-such.png", "There is no image file no-such.png"),
        ("", "path is empty"),
        (".", "is a folder, not an image file"),
        ("a\0b", "cannot be read: not a usable path"),
        ("~nobody-of-that-name/a.png", "cannot be read: not a usable path"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("https://example.org/a.png", "URLs are not fetched: download"),
        ("data:image/png;base64,!!!", "not valid base64"),
        ("data:image/png;base64,é", "not valid base64"),
        ("data:image/png;base64,AAAA=", "not valid base64"),
        ("data:image/png;base64,AAAA", "in the data URL is not a readable"),
        ("data:image/png,AAAA", "must look like data:image/png;base64"),
        ("data:", "must look like data:image/png;base64"),
        (3, "a data: URL or a Pillow image, not int"),
        (None, "not NoneType"),
    ],
)
def test_sources_that_are_none_are_refused(source: Any, said: str) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        Image.open(source)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("source", ["photo.png", b"", None, 5])
def test_what_is_no_pillow_image_is_told_where_it_is_read(source: Any) -> None:
    with pytest.raises(ImageError, match=rf"takes a Pillow image, not {type(source).__name__}: Image\.open"):
        Image(source)
