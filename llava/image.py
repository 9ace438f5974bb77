"""Images, read in one way, at the edge, under limits; every step of the method then sees the same pixels.

An `Image` is upright (EXIF applied), RGB, 8 bit, with transparent parts on white: what a person sees is what the model sees.
Only JPEG, PNG, WebP and GIF (first frame) are decoded. Limits are checked on the header, before any pixel is allocated. An image
keeps its encoded bytes, not its pixels, so that thousands of traces fit into memory; decoding them again gives the same pixels.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from llava.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_BYTES = 10 * 2**20
MAX_SIDE = 8192  # pixels
MAX_PIXELS = 25_000_000
MAX_PNG_BYTES = 4 * MAX_PIXELS  # more than any PNG of ours has
_PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins
_ORIENTATION = 0x0112  # the EXIF tag
_BAND = 256  # rows that are hashed at a time
MAX_ASPECT = 200  # longer side : shorter side; padding to a square costs longer side squared


class Image:
    """An immutable picture. Equal pixels are equal images, wherever they came from.

    `Image.open` takes a path, bytes, a `data:` URL, a Pillow image or an `Image`; it decodes the whole picture once and raises
    `ImageError` with a sentence that says what is wrong. `sha256` is a hex digest over mode, size and pixels.
    """

    __slots__ = ("_plain", "_size", "_source", "sha256")

    def __init__(self, pil: PILImage) -> None:
        if not _is_pillow(pil):
            raise ImageError(
                f"Image(...) takes a Pillow image, not {type(pil).__name__}: Image.open(...) reads paths, bytes and data: URLs."
            )
        _check_size(pil.size)
        rgb = _canonical(pil)
        self._set(rgb, _png(rgb), plain=True)

    def _set(self, rgb: PILImage, source: bytes, *, plain: bool) -> None:
        self._size = rgb.size
        self._source = source  # a file whose decoding gives `rgb`
        self._plain = plain  # whether any reader sees the same in it
        digest = hashlib.sha256(f"{rgb.mode} {rgb.width}x{rgb.height}\n".encode())
        for top in range(0, rgb.height, _BAND):  # not all at once: that would be one more copy of the picture
            digest.update(rgb.crop((0, top, rgb.width, min(top + _BAND, rgb.height))).tobytes())
        self.sha256 = digest.hexdigest()

    @classmethod
    def open(cls, source: str | Path | bytes | PILImage | Image) -> Image:
        """Read and check `source`; raises `ImageError`."""
        if isinstance(source, Image):
            return source
        if isinstance(source, bytes):
            return cls._read(source, "The image")
        if isinstance(source, str) and source[:5].lower() == "data:":
            return cls._read(data_url_bytes(source), "The image in the data URL")
        if isinstance(source, str | Path):
            return cls._read(_file_bytes(source), f"{source}")
        if _is_pillow(source):
            return cls(source)
        raise ImageError(f"An image is a path, bytes, a data: URL or a Pillow image, not {type(source).__name__}.")

    @staticmethod
    def measure(source: bytes | str) -> tuple[int, int]:
        """Width and height that the header of a file's bytes or of a `data:` URL tells, before any pixel is decoded; raises `ImageError`
        for a header that `open` would not take. Who takes several pictures adds them up first."""
        if isinstance(source, bytes):
            return _header(source, "The image").size
        return _header(data_url_bytes(source), "The image in the data URL").size

    @classmethod
    def of_file(cls, file: bytes) -> Image:
        """The image whose `file()` this is. The limits on pixels hold; that on bytes does not for a PNG: a picture that was accepted as a
        small JPEG may travel as a large one. Raises `ImageError`."""
        return cls._read(file, "The image", MAX_PNG_BYTES if file.startswith(_PNG) else MAX_BYTES)

    @classmethod
    def reopen(cls, data_url: str, sha256: str) -> Image:
        """The image whose `data_url()` and `sha256` these are.

        The limits on pixels hold, that on bytes does not: a picture that was accepted as a small JPEG may be a large PNG. Raises
        `ImageError` for anything but a `data:` URL, and when the pixels are not those of the hash.
        """
        what = "The saved image"
        if data_url[:5].lower() != "data:":
            raise ImageError(f"{what} is no data: URL.")
        image = cls._read(data_url_bytes(data_url, MAX_PNG_BYTES), what, MAX_PNG_BYTES)
        if image.sha256 != sha256:
            raise ImageError(f"{what} has other pixels than its hash says: it was changed or damaged.")
        return image

    @classmethod
    def _read(cls, data: bytes, what: str, limit: int = MAX_BYTES) -> Image:
        if len(data) > limit:
            raise _too_large(what, limit)
        image, pil = cls.__new__(cls), _loaded(data, what)
        image._set(_canonical(pil), data, plain=_is_plain(pil))
        return image

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._size

    @property
    def nbytes(self) -> int:
        """How much memory it takes: that of its file."""
        return len(self._source)

    def pil(self) -> PILImage:
        """A Pillow RGB image of one's own; decoded anew each time."""
        return _canonical(_loaded(self._source, "The image"))

    def png(self) -> bytes:
        """The pixels as a PNG file: equal images give equal bytes."""
        return _png(self.pil())

    def file(self) -> bytes:
        """A picture file of these pixels that any reader reads alike: the one it came from where that is a plain RGB JPEG or PNG, else
        a PNG. Often much smaller than `png()`, and always the same bytes."""
        return self._source if self._plain else self.png()

    def data_url(self) -> str:
        """The pixels as `data:image/png;base64,...`."""
        return "data:image/png;base64," + base64.b64encode(self.png()).decode("ascii")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Image({self.size[0]}x{self.size[1]}, sha256={self.sha256[:12]})"


def _is_pillow(image: object) -> bool:
    return hasattr(image, "convert") and hasattr(image, "size")  # without loading Pillow


def upright_rgb(pil: PILImage) -> PILImage:
    """A new upright 8-bit RGB image; transparent parts on white, 16-bit greys scaled to 8 bit."""
    from PIL import Image as PIL
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(pil)
    if upright.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling
        return upright.convert("I").point(lambda v: v * (1 / 257)).convert("L").convert("RGB")
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        white = PIL.new("RGBA", rgba.size, "white")
        return PIL.alpha_composite(white, rgba).convert("RGB")
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _canonical(pil: PILImage) -> PILImage:
    try:
        rgb = upright_rgb(pil)
    except Exception as error:  # a lazily opened file may be cut off; some exotic modes do not convert
        raise ImageError(f"The image (mode {pil.mode}) is damaged or cannot be converted to RGB.") from error
    rgb.info.clear()  # nothing but pixels: equal images give equal PNG bytes
    return rgb


def _png(rgb: PILImage) -> bytes:
    buffer = io.BytesIO()
    rgb.save(buffer, "PNG", compress_level=1)  # higher levels take ten times as long for a few per cent
    return buffer.getvalue()


def _loaded(data: bytes, what: str) -> PILImage:
    """The file as it is, all of it decoded."""
    pil = _header(data, what)
    try:
        pil.load()
    except Exception:  # noqa: BLE001 - decoders raise many kinds, as for a header
        raise ImageError(f"{what} is damaged or cut off: its pixels cannot be decoded.") from None
    return pil


def _is_plain(pil: PILImage) -> bool:
    """Whether readers that know neither transparency nor a tag for what is up see the same in a file."""
    plain = pil.mode == "RGB" and pil.format in ("JPEG", "PNG") and pil.getexif().get(_ORIENTATION, 1) == 1
    return plain and not pil.has_transparency_data


def _header(data: bytes, what: str) -> PILImage:
    """The file with its header read, and within the limits."""
    try:
        pil = _file(data, what)
    except ImageError:
        raise
    except Exception:  # noqa: BLE001 - decoders raise many kinds (OSError, SyntaxError, struct.error, ...); all mean the same to the user
        raise ImageError(f"{what} is not a readable {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image.") from None
    _check_size(pil.size, what)
    return pil


def _file(data: bytes, what: str) -> PILImage:
    """The file with its header read, by the class of its format.

    Not by `PIL.Image.open`, which prints a warning of its own about large pictures: it could be silenced only for all threads.
    """
    from PIL import GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    file = io.BytesIO(data)
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile(file)
    if data.startswith(_PNG):
        return PngImagePlugin.PngImageFile(file)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile(file)
    if data.startswith((b"GIF87a", b"GIF89a")):
        _check_size(_gif_size(data), what)
        return GifImagePlugin.GifImageFile(file)
    raise ValueError("none of the formats")


def _gif_size(data: bytes) -> tuple[int, int]:
    """Pixels that a GIF's first frame needs: it may be larger than the header says, and Pillow allocates it while opening."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    while data[at] != ord(","):  # the frame; before it stand extensions ("!"), each a chain of blocks
        if data[at] == ord("!"):
            at += 2
            while data[at]:
                at += data[at] + 1
        at += 1
    left, top, wide, high = struct.unpack_from("<4H", data, at + 1)
    return max(width, left + wide), max(height, top + high)


def _too_large(what: str, limit: int) -> ImageError:
    return ImageError(f"{what} is too large: at most {limit // 2**20} MiB are accepted. Scale it down.")


def _check_size(size: tuple[int, int], what: str = "The image") -> None:
    width, height = size
    shape = f"{what} is {width} x {height} pixels"
    if min(size) < 1:
        raise ImageError(f"{shape}: it is empty.")
    if max(size) > MAX_SIDE:
        raise ImageError(f"{shape}; a side may have at most {MAX_SIDE}. Scale it down.")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{shape}; at most {MAX_PIXELS / 1e6:.0f} megapixels are accepted. Scale it down.")
    if max(size) > MAX_ASPECT * min(size):
        raise ImageError(f"{shape}; the sides may differ by at most {MAX_ASPECT} : 1. Crop it.")


def _file_bytes(source: str | Path) -> bytes:
    if not str(source):
        raise ImageError("The image's path is empty.")
    if "://" in str(source):
        raise ImageError("URLs are not fetched: download the image and give its path.")
    try:
        with Path(source).expanduser().open("rb") as file:
            return file.read(MAX_BYTES + 1)  # `_read` refuses what is longer
    except FileNotFoundError:
        raise ImageError(f"There is no image file {source}.") from None
    except IsADirectoryError:
        raise ImageError(f"{source} is a folder, not an image file.") from None
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: `~` of nobody
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a usable path"
        raise ImageError(f"The image file {str(source)[:200]!r} cannot be read: {reason}.") from None


def data_url_bytes(url: str, limit: int = MAX_BYTES) -> bytes:
    """The file that a `data:` URL holds, of at most `limit` bytes; raises `ImageError`."""
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageError("The data URL must look like data:image/png;base64,....")
    if len(body) > limit * 4 // 3 + 4:
        raise _too_large("The image in the data URL", limit)
    try:
        if len(body) % 4:  # Python's decoder takes padding beyond what is needed
            raise ValueError("padding")
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("The data URL is not valid base64.") from None
