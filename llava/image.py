"""Images, decoded once, at the edge, under limits; every step of the method then sees the same pixels.

An `Image` is upright (EXIF applied), RGB, 8 bit, with transparent parts on white: what a person sees is what the model sees.
Only JPEG, PNG, WebP and GIF (first frame) are decoded. Limits are checked on the header, before any pixel is allocated.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from llava.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_BYTES = 10 * 2**20
MAX_SIDE = 8192  # pixels
MAX_PIXELS = 25_000_000
MAX_ASPECT = 200  # longer side : shorter side; padding to a square costs longer side squared


class Image:
    """An immutable decoded picture. Equal pixels are equal images, wherever they came from.

    `Image.open` takes a path, bytes, a `data:` URL, a Pillow image or an `Image`; it raises `ImageError` with a sentence that
    says what is wrong. `sha256` is a hex digest over mode, size and pixels.
    """

    __slots__ = ("_pil", "sha256")

    def __init__(self, pil: PILImage) -> None:
        _check_size(pil.size)
        try:
            self._pil = upright_rgb(pil)
        except Exception as error:  # a lazily opened file may be cut off; some exotic modes do not convert
            raise ImageError(f"The image (mode {pil.mode}) is damaged or cannot be converted to RGB.") from error
        self._pil.info.clear()  # nothing but pixels: equal images give equal PNG bytes
        header = f"{self._pil.mode} {self._pil.width}x{self._pil.height}\n".encode()
        self.sha256 = hashlib.sha256(header + self._pil.tobytes()).hexdigest()

    @classmethod
    def open(cls, source: str | Path | bytes | PILImage | Image) -> Image:
        """Decode `source`; raises `ImageError`."""
        if isinstance(source, Image):
            return source
        if isinstance(source, bytes):
            return _decode(source, "The image")
        if isinstance(source, str) and source[:5].lower() == "data:":
            return _decode(_data_url_bytes(source), "The image in the data URL")
        if isinstance(source, str | Path):
            return _decode(_file_bytes(source), f"{source}")
        if hasattr(source, "convert") and hasattr(source, "size"):
            return cls(source)
        raise ImageError(f"An image is a path, bytes, a data: URL or a Pillow image, not {type(source).__name__}.")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._pil.size

    def pil(self) -> PILImage:
        """A Pillow RGB image of one's own."""
        return self._pil.copy()

    def png(self) -> bytes:
        """The pixels as a PNG file."""
        buffer = io.BytesIO()
        self._pil.save(buffer, "PNG")
        return buffer.getvalue()

    def data_url(self) -> str:
        """The pixels as `data:image/png;base64,...`."""
        return "data:image/png;base64," + base64.b64encode(self.png()).decode("ascii")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Image({self.size[0]}x{self.size[1]}, sha256={self.sha256[:12]})"


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
    return upright.convert("RGB")


def _decode(data: bytes, what: str) -> Image:
    from PIL import Image as PIL

    if len(data) > MAX_BYTES:
        raise ImageError(f"{what} is too large: at most {MAX_BYTES // 2**20} MiB are accepted. Scale it down.")
    try:
        pil = PIL.open(io.BytesIO(data), formats=FORMATS)
    except (PIL.DecompressionBombWarning, PIL.DecompressionBombError):
        raise ImageError(f"{what} has more than {MAX_PIXELS / 1e6:.0f} megapixels. Scale it down.") from None
    except Exception:  # decoders raise many kinds (OSError, SyntaxError, struct.error, ...); all mean the same to the user
        raise ImageError(f"{what} is not a readable {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image.") from None
    _check_size(pil.size, what)
    try:
        pil.load()
    except Exception:
        raise ImageError(f"{what} is damaged or cut off: its pixels cannot be decoded.") from None
    return Image(pil)


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
    path = Path(source)
    if not str(source):
        raise ImageError("The image's path is empty.")
    if "://" in str(source):
        raise ImageError("URLs are not fetched: download the image and give its path.")
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)  # `_decode` refuses what is longer
    except FileNotFoundError:
        raise ImageError(f"There is no image file {path}.") from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder, not an image file.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a usable path"
        raise ImageError(f"The image file {str(path)[:200]!r} cannot be read: {reason}.") from None


def _data_url_bytes(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageError("The data URL must look like data:image/png;base64,....")
    if len(body) > MAX_BYTES * 4 // 3 + 4:
        raise ImageError(f"The image in the data URL is too large: at most {MAX_BYTES // 2**20} MiB are accepted. Scale it down.")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("The data URL is not valid base64.") from None
