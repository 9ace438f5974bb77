"""Images: decoded once, upright RGB, under limits; every bad one refused in a sentence."""

import base64
import copy
import io
import pickle
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PIL

from llava.errors import ImageError
from llava.image import MAX_ASPECT, MAX_BYTES, MAX_PIXELS, MAX_SIDE, Image


def encoded(pil: PIL.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    pil.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(size: tuple[int, int] = (40, 20), mode: str = "RGB") -> PIL.Image:
    """Dark, with a bright upper left corner."""
    pil = PIL.new("RGB", size, (10, 20, 30))
    pil.paste((250, 240, 230), (0, 0, size[0] // 2, size[1] // 2))
    return pil.convert(mode)


def pixels(image: Image) -> list[Any]:
    return np.asarray(image.pil()).reshape(-1, 3).tolist()


def opened(data: bytes) -> Image | None:
    """The image, or None where it is refused as it should be."""
    try:
        return Image.open(data)
    except ImageError as error:
        if not re.match("The image (is|has) .*(damaged|not a readable|pixels|megapixels)", str(error)):
            raise
        return None


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels: limits must hold before any is decoded."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# What is accepted


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "JPEG"])
def test_the_four_formats_are_read_alike_from_everywhere(kind: str, tmp_path: Path) -> None:
    options: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
    data = encoded(corners(), kind, **options.get(kind, {}))
    path = tmp_path / "picture.bin"  # the content decides, not the name
    path.write_bytes(data)
    url = f"data:image/x;base64,{base64.b64encode(data).decode()}"
    images = [Image.open(source) for source in (data, path, str(path), url, url.replace("data:", "DATA:", 1), PIL.open(io.BytesIO(data)))]
    assert len(set(images)) == 1
    assert (images[0].size, images[0].pil().mode) == ((40, 20), "RGB")
    assert Image.open(images[0]) is images[0]
    assert np.abs(np.asarray(images[0].pil()).astype(int) - np.asarray(corners())).max() <= (12 if kind == "JPEG" else 0)


def test_a_gif_gives_its_first_frame() -> None:
    data = encoded(PIL.new("RGB", (4, 4), "red"), "GIF", save_all=True, append_images=[PIL.new("RGB", (4, 4), "blue")])
    assert pixels(Image.open(data))[0] == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(orientation: int) -> None:
    operations = {
        2: PIL.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Transpose.ROTATE_180,
        4: PIL.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Transpose.TRANSPOSE,
        6: PIL.Transpose.ROTATE_90,
        7: PIL.Transpose.TRANSVERSE,
        8: PIL.Transpose.ROTATE_270,
    }
    stored = corners().transpose(operations[orientation]) if orientation in operations else corners()
    exif = PIL.Exif()
    exif[0x112] = orientation
    assert Image.open(encoded(stored, exif=exif)) == Image(corners())


def test_damaged_exif_is_no_reason_to_refuse_a_picture() -> None:
    assert Image.open(encoded(corners(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff")).size == (40, 20)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "RGBA", "PA", "RGBX", "F", "I"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image(PIL.new(mode, (3, 2)))
    assert (image.pil().mode, image.size) == ("RGB", (3, 2))


def test_transparent_parts_are_white() -> None:
    clear = PIL.new("RGBA", (2, 1), (255, 0, 0, 0))
    clear.putpixel((1, 0), (255, 0, 0, 128))
    assert pixels(Image.open(encoded(clear))) == [[255, 255, 255], [255, 127, 127]]
    palette = PIL.new("P", (2, 1), 0)
    palette.putpalette([9, 9, 9, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    assert pixels(Image.open(encoded(palette, transparency=0))) == [[255, 255, 255], [0, 0, 255]]
    assert pixels(Image.open(encoded(PIL.new("L", (1, 1), 7), transparency=7))) == [[255, 255, 255]]


def test_sixteen_bit_greys_are_scaled_and_not_clipped() -> None:
    deep = PIL.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert [grey for grey, _, _ in pixels(Image.open(encoded(deep)))] == [0, 100, 255]


# What an image is


def test_equal_pixels_are_equal_images_and_others_are_not() -> None:
    plain, tagged = Image(corners()), Image.open(encoded(corners(), dpi=(300, 300), icc_profile=b"x" * 200))
    assert plain == tagged
    assert hash(plain) == hash(tagged)
    assert plain.png() == tagged.png()  # servers cache by bytes, and nothing but pixels leaves
    assert plain != Image(corners((20, 40)))
    assert Image(PIL.new("RGB", (2, 3))) != Image(PIL.new("RGB", (3, 2)))
    assert plain != "something else"


def test_an_image_does_not_change_with_what_it_was_made_of_or_gave_away() -> None:
    source = corners()
    image = Image(source)
    source.paste("red", (0, 0, 40, 20))
    image.pil().paste("red", (0, 0, 40, 20))
    assert image == Image(corners())


def test_png_and_data_url_hold_the_same_pixels_and_copies_are_equal() -> None:
    image = Image(corners())
    assert Image.open(image.png()) == Image.open(image.data_url()) == image
    assert pickle.loads(pickle.dumps(image)) == copy.deepcopy(image) == image  # noqa: S301
    assert repr(image) == f"Image(40x20, sha256={image.sha256[:12]})"


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
        ((10_000, 9_500), "more than 25 megapixels|a side may have"),  # where Pillow itself begins to warn
        ((100_000, 100_000), "more than 25 megapixels"),
        ((0, 5), "not a readable|empty"),
    ],
)
def test_sizes_over_a_limit_are_refused_on_the_header(size: tuple[int, int], said: str) -> None:
    with pytest.raises(ImageError, match=said):
        Image.open(png_header(*size))


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
        ("x" * 5000, "cannot be read: File name too long"),
        ("https://example.org/a.png", "URLs are not fetched: download"),
        ("data:image/png;base64,!!!", "not valid base64"),
        ("data:image/png;base64,é", "not valid base64"),
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
