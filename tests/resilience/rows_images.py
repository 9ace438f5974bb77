"""Rows 27 to 32: files that are no images or damaged, formats that are not decoded, and what must be seen alike by every step."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import secrets
import struct
import zlib
from pathlib import Path
from typing import Any

from PIL import Image as PIL
from PIL import ImageOps

from tests.factories import corners, encoded, png_header
from tests.resilience.matrix import row
from tests.resilience.stack import KEY, Running, Stack
from tests.resilience.talk import CHAT, Answer, ask, bearer, check_answer, question
from tests.resilience.tally import Tally, expect

KINDS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "GIF": "gif"}
IMAGE = {"invalid_image", "unsupported_image_format"}


def url(data: bytes, kind: str = "png") -> str:
    """A data URL."""
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


async def show(stack: Stack, *urls: str, text: str = "?", **more: Any) -> Answer:
    """Ask about images."""
    return await ask(stack.gateway.port, "POST", CHAT, question(text, *urls, **more), bearer(KEY))


async def refused(stack: Stack, tally: Tally, what: str, data: bytes, kind: str = "png", codes: set[str] = IMAGE) -> None:
    """One trial: the file must not be taken."""
    with tally.trial(what):
        check_answer(await show(stack, url(data, kind)), {400}, codes)


async def seen(stack: Stack, tally: Tally, what: str, data: bytes, wanted: PIL.Image, kind: str = "png") -> None:
    """One trial: every step sees exactly the pixels of `wanted` (RGB)."""
    with tally.trial(what):
        mood = "harmful" if len(what) % 2 else "benign"
        answer = await show(stack, url(data, kind), text=f"sees({secrets.token_hex(6)}) mood({mood})")
        check_answer(answer, {200})
        pixels = hashlib.sha256(f"RGB {wanted.width}x{wanted.height}\n".encode() + wanted.convert("RGB").tobytes()).hexdigest()
        expect(answer.text == pixels, "the steps see other pixels")


@row(27, "files: no image, cut at every 1/16, bytes changed, empty, two formats at once", "400; what is cut is never shown in part")
async def damaged(stack: Stack, tally: Tally) -> None:
    picture = corners().resize((96, 64))
    files = {kind: encoded(picture, kind) for kind in KINDS}
    for kind, data in files.items():
        for part in stack.share(range(16), 4):
            await refused(stack, tally, f"{kind} cut at {part}/16", data[: len(data) * part // 16], KINDS[kind])
    others = [b"", b"\0", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"BM" + b"\0" * 60, b"%PDF-1.7", b"<html>"]
    others += [secrets.token_bytes(64), b"PK\x03\x04" + files["PNG"], b"\0" + files["JPEG"], b" " + files["PNG"]]
    for data in others * stack.many(4, 1):
        await refused(stack, tally, f"no image {data[:8]!r}", data)
    spoiled = bytearray(files["PNG"])
    for at in range(8, len(spoiled) - 12, max(1, round((len(spoiled) - 20) / stack.many(200, 12)))):
        changed = bytes(spoiled[:at]) + bytes([spoiled[at] ^ 0xFF]) + bytes(spoiled[at + 1 :])
        with tally.trial("PNG with a byte changed"):
            answer = await show(stack, url(changed), text=f"sees({secrets.token_hex(6)}) mood(harmful)")
            check_answer(answer, {200, 400}, IMAGE)  # a changed time stamp or the like shows nothing wrong; all steps see the same


@row(
    28,
    "formats that are not taken: EPS, PSD, TIFF, FITS, ICNS, PDF, SVG, AVIF, BMP, TGA, ICO, PPM, under any name",
    "400; their decoders are never called",
)
async def formats(stack: Stack, tally: Tally) -> None:
    picture = corners()
    files: list[bytes] = []
    for kind in ("EPS", "TIFF", "BMP", "TGA", "ICO", "PPM", "PCX", "SGI", "JPEG2000", "ICNS", "PDF", "DIB", "IM", "SPIDER", "AVIF"):
        buffer = io.BytesIO()
        try:
            (picture.convert("F") if kind == "SPIDER" else picture).save(buffer, kind)
        except (KeyError, OSError, ValueError):
            continue  # this Pillow cannot write it
        files.append(buffer.getvalue())
    files += [
        b"8BPS\0\1" + b"\0" * 40,
        b"SIMPLE  =                    T".ljust(2880),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
    ]
    files += [
        b"\0\0\0\x1cftypavif" + b"\0" * 40,
        b"\0\0\1\0\1\0" + b"\0" * 40,
        b"II*\0" + b"\0" * 40,
        b"\xff\x0a" + b"\0" * 20,
        b"icns" + b"\0" * 20,
    ]
    for data, kind in stack.share(itertools.product(files, KINDS.values())):
        await refused(stack, tally, f"{data[:8]!r} as {kind}", data, kind)
    for data, kind in stack.share(itertools.product(files, ("tiff", "svg+xml", "avif", "bmp", "x-icon", "vnd.adobe.photoshop"))):
        await refused(stack, tally, f"{data[:8]!r} as {kind}", data, kind)


@row(29, "animated GIF, APNG and WebP, up to 2,000 frames", "the first frame, in every step")
async def animated(stack: Stack, tally: Tally) -> None:
    for frames in (2, 3, 50, 2000)[: 2 if stack.scale < 0.05 else 4]:
        pictures = [PIL.new("RGB", (16, 16), (at % 256, at // 256, 90)) for at in range(frames)]
        for kind, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
            buffer = io.BytesIO()
            pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:], duration=20, **options)
            first = PIL.open(io.BytesIO(buffer.getvalue()))
            for _ in range(stack.many(25, 1)):
                await seen(stack, tally, f"{frames} frames of {kind}", buffer.getvalue(), first.convert("RGB"), KINDS[kind])


@row(30, "CMYK, gray with alpha, palette, 1 bit, 16 bit, transparent, with a profile", "200; RGB pixels equal to the reference")
async def modes(stack: Stack, tally: Tally) -> None:
    base = corners().resize((24, 16))
    cases: list[tuple[str, PIL.Image, PIL.Image]] = [("JPEG", base.convert("CMYK"), base)]
    for mode in ("1", "L", "LA", "P", "RGBA"):
        cases.append(("PNG", base.convert(mode), base))
    alpha = base.convert("RGBA")
    alpha.putalpha(PIL.linear_gradient("L").resize(base.size))
    sixteen = PIL.frombytes("I;16", (16, 16), b"".join(struct.pack("<H", 257 * at) for at in range(256)))
    cases += [("PNG", alpha, alpha), ("WEBP", alpha, alpha), ("PNG", sixteen, sixteen)]
    for _ in range(stack.many(34, 1)):
        for kind, picture, _ in cases:
            buffer = io.BytesIO()
            picture.save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
            await seen(stack, tally, f"{picture.mode} as {kind}", buffer.getvalue(), reference(buffer.getvalue()), KINDS[kind])


def reference(data: bytes) -> PIL.Image:
    """What a person sees, computed apart from the product: transparent parts over white, 16 bits scaled to 8."""
    picture = PIL.open(io.BytesIO(data))
    if picture.mode == "I;16":
        values = [value // 257 for (value,) in struct.iter_unpack("<H", picture.tobytes())]
        return PIL.frombytes("L", picture.size, bytes(values)).convert("RGB")
    if picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info:
        white = PIL.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        return white.convert("RGB")
    return picture.convert("RGB")


@row(31, "EXIF orientations 1 to 8; EXIF that is garbage, loops or is cut", "upright for the model as for a person; garbage is ignored")
async def orientations(stack: Stack, tally: Tally) -> None:
    base = corners().resize((20, 12))
    for _ in range(stack.many(30, 1)):
        for turn in range(1, 9):
            exif = PIL.Exif()
            exif[0x0112] = turn
            data = encoded(base, "PNG", exif=exif.tobytes())
            await seen(stack, tally, f"orientation {turn}", data, ImageOps.exif_transpose(PIL.open(io.BytesIO(data))))
        loop = b"MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08\0\0\0\x08"
        for garbage in (b"", b"garbage", b"MM\0*\xff\xff\xff\xff", loop, b"II*\0\x08\0\0\0\xff\xff", secrets.token_bytes(200)):
            wanted = PIL.open(io.BytesIO(encoded(base, "JPEG")))
            await seen(stack, tally, f"EXIF {garbage[:8]!r}", encoded(base, "JPEG", exif=b"Exif\0\0" + garbage), wanted, "jpeg")


@row(
    32,
    "sizes: 1 x 1, 1 x 60,000, bombs by header or by compression, nine images, too many pixels together",
    "400 or 413 before memory is taken",
)
async def sizes(stack: Stack, tally: Tally) -> None:
    before = peak(stack.gateway, anew=True)
    bad = [
        png_header(*size)
        for size in (
            (1, 60_000),
            (60_000, 1),
            (100_000, 100_000),
            (0, 0),
            (0, 9),
            (8193, 100),
            (2**31 - 1, 2**31 - 1),
            (201, 1),
            (5001, 5000),
        )
    ]
    for data in bad * stack.many(20, 1):
        await refused(stack, tally, "a size over a limit", data, codes={"invalid_image"})
    with tally.trial("memory for sizes over a limit"):
        taken = peak(stack.gateway) - before
        expect(taken < 32, f"{taken:+.0f} MiB at most")
    large, nearly, too_large = (url(_bomb(8192, height)) for height in (3000, 3051, 3052))  # 25 megapixels and a little less and more
    pixel, small = (url(encoded(picture, "PNG")) for picture in (PIL.new("RGB", (1, 1)), corners()))
    long = url(b"\x89PNG\r\n\x1a\n" + bytes(10 * 2**20))
    cases: list[tuple[str, list[str], int, str | None]] = [
        ("a small file of 24 megapixels", [large], 200, None),
        ("a small file of nearly 25 megapixels", [nearly], 200, None),
        ("a small file of more than 25 megapixels", [too_large], 400, "invalid_image"),
        ("two of 24 megapixels", [large] * 2, 200, None),
        ("three of them", [large] * 3, 400, "invalid_value"),
        ("one pixel", [pixel], 200, None),
        *((f"{count} images", [small] * count, 200, None) for count in (2, 8)),
        *((f"{count} images", [small] * count, 400, "invalid_value") for count in (9, 50)),
        ("a file of more than 10 MiB", [long], 400, "invalid_image"),
    ]
    for _ in range(stack.many(10, 1)):
        for what, urls, status, code in cases:
            with tally.trial(what):
                check_answer(await show(stack, *urls), {status}, {code} if code else None)
    most = peak(stack.gateway) - before
    tally.figures["memory, at most"] = f"{taken:+.0f} MiB for sizes over a limit, {most:+.0f} MiB for those of 24 megapixels"


def peak(running: Running, *, anew: bool = False) -> float:
    """The most memory that a program held since it was last asked `anew`, in MiB (its own process, as Linux counts it)."""
    process = Path(f"/proc/{running.process.pid}")
    if anew:
        (process / "clear_refs").write_text("5", encoding="ascii")
    fields = dict(line.split(":", 1) for line in (process / "status").read_text(encoding="ascii").splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def _bomb(width: int, height: int) -> bytes:
    """A PNG of one colour: some kilobytes that decode to many megabytes."""
    rows = zlib.compress((b"\0" + b"\x80" * (3 * width)) * height, 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
