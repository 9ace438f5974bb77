"""Images: read in one way, upright RGB; kept as files and given back as they were."""

import base64
import copy
import hashlib
import io
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL

from llava.errors import ImageError
from llava.image import MAX_BYTES, MAX_PIXELS, Image
from tests.factories import corners, encoded, png_header


def pixels(image: Image) -> list[Any]:
    return np.asarray(image.pil()).reshape(-1, 3).tolist()


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


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(encoded(corners(), "PNG"))
    assert Image.open("~/a.png") == Image.open(Path("~/a.png")) == Image(corners())


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


def test_an_image_keeps_its_file_and_no_pixels() -> None:
    data = encoded(PIL.effect_noise((64, 64), 90).resize((1024, 1024)).convert("RGB"), "JPEG")
    assert len(pickle.dumps(Image.open(data))) < len(data) + 1000
    assert len(pickle.dumps(Image(PIL.new("RGB", (1024, 1024))))) < 50_000


def turned() -> PIL.Exif:
    exif = PIL.Exif()
    exif[0x112] = 6
    return exif


@pytest.mark.parametrize(
    ("file", "same"),
    [
        (encoded(corners()), True),
        (encoded(corners(), "JPEG"), True),
        (encoded(corners(), exif=turned()), False),
        (encoded(corners(), "JPEG", exif=turned()), False),
        (encoded(corners(), transparency=(255, 0, 0)), False),
        (encoded(corners().convert("L")), False),
        (encoded(corners(), "GIF"), False),
        (encoded(corners(), "WEBP", lossless=True), False),
    ],
)
def test_a_file_that_every_reader_sees_alike_is_sent_as_it_came_and_no_other(file: bytes, same: bool) -> None:
    image = Image.open(file)
    assert (image.file() == file) is same
    assert Image.open(image.file()) == image == Image.of_file(image.file())


def test_a_file_that_is_sent_as_it_came_is_not_decoded_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [encoded(corners()), encoded(corners(), "JPEG")]
    images = [Image.open(file) for file in files]
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    assert [image.file() for image in images] == files


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "JPEG"])
def test_a_header_alone_tells_the_size(kind: str) -> None:
    data = encoded(corners(), kind)
    url = f"data:image/x;base64,{base64.b64encode(data).decode()}"
    assert Image.measure(data) == Image.measure(url) == (40, 20)
    assert Image.measure(png_header(70, 30)) == (70, 30)
    for bad in (b"", b"no picture", png_header(9000, 9), data[:5], "data:image/png,x", "a.png"):
        with pytest.raises(ImageError):
            Image.measure(bad)


def test_a_picture_higher_than_a_band_has_the_hash_of_all_its_pixels() -> None:
    tall = PIL.effect_noise((8, 1000), 50).convert("RGB")
    assert Image(tall).sha256 == hashlib.sha256(b"RGB 8x1000\n" + tall.tobytes()).hexdigest()


def test_every_reading_gives_the_pixels_of_the_hash() -> None:
    image = Image.open(encoded(PIL.effect_noise((64, 64), 90).convert("RGB"), "JPEG", quality=50))
    assert {Image(image.pil()), Image.open(image.png()), image} == {image}
    assert image.png() == image.png() == Image(image.pil()).png()


def test_what_a_trace_embeds_is_read_back_without_the_limit_on_bytes() -> None:
    noise = Image(PIL.frombytes("RGB", (2200, 2000), random.Random(0).randbytes(3 * 2200 * 2000)))
    url = noise.data_url()
    assert len(url) > MAX_BYTES
    with pytest.raises(ImageError, match="at most 10 MiB"):
        Image.open(url)
    assert Image.reopen(url, noise.sha256) == noise


def test_what_travels_between_our_processes_is_read_without_the_limit_on_bytes_where_it_is_a_png() -> None:
    noise = Image(PIL.frombytes("RGB", (2200, 2000), random.Random(0).randbytes(3 * 2200 * 2000)))
    assert len(noise.file()) > MAX_BYTES
    assert Image.of_file(noise.file()) == noise
    for file in (b"GIF89a" + bytes(MAX_BYTES), b"\xff\xd8\xff" + bytes(MAX_BYTES)):
        with pytest.raises(ImageError, match="at most 10 MiB"):
            Image.of_file(file)


def test_the_largest_picture_is_read_back_too() -> None:
    large = Image(corners((5000, MAX_PIXELS // 5000)))
    assert Image.reopen(large.data_url(), large.sha256) == large
    assert large.pil().size == large.size


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/etc/passwd", "is no data: URL"),
        (Image(PIL.new("RGB", (2, 2), "red")).data_url(), "other pixels than its hash says"),
        ("data:image/png;base64,AAAA", "The saved image is not a readable"),
        ("data:image/png;base64," + base64.b64encode(png_header(9000, 9)).decode(), "The saved image is 9000 x 9 pixels"),
    ],
)
def test_a_saved_image_that_was_changed_is_refused(url: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        Image.reopen(url, Image(corners()).sha256)
