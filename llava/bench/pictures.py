"""Pictures and questions for benchmarks: drawn from a number, equal on every machine, each its own to the cache. Knows no model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image as PIL
from PIL import ImageDraw, ImageEnhance

from llava.chat import Chat, Image
from llava.errors import UserError

QUESTIONS = (
    "What is in the picture?",
    "How many things do you see, and which colours do they have?",
    "What could be made of this in real life?",
    "Describe the scene in one or two sentences.",
)
ELSEWHERE = 500_000  # added to a seed: pictures for engines to be used with before anything is measured
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def drawn(number: int, size: tuple[int, int] = (336, 252)) -> PIL.Image:
    """A picture of rectangles and ellipses."""
    draw = random.Random(number)
    picture = PIL.new("RGB", size, _colour(draw))
    brush = ImageDraw.Draw(picture)
    for _ in range(draw.randint(2, 9)):
        left, top = draw.randrange(size[0] - 40), draw.randrange(size[1] - 40)
        box = (left, top, left + draw.randint(20, 160), top + draw.randint(20, 160))
        (brush.ellipse if draw.random() < 0.5 else brush.rectangle)(box, fill=_colour(draw))
    return picture


def varied(picture: PIL.Image, number: int) -> PIL.Image:
    """A photo of the same thing in a slightly other light."""
    return ImageEnhance.Brightness(picture).enhance(random.Random(number).uniform(0.85, 1.0))


def chats(count: int, questions_per_image: int, seed: int) -> list[Chat]:
    """`count` single questions, each group of `questions_per_image` neighbours about one picture; other seeds give other pictures."""
    images = [Image(drawn(1_000_000 * seed + i)) for i in range(-(-count // questions_per_image))]
    return [Chat.ask(QUESTIONS[i % len(QUESTIONS)], [images[i // questions_per_image]]) for i in range(count)]


def mixed(count: int, folder: Path | None, seed: int) -> list[Chat]:
    """`count` questions about pictures of their own: variations of those in `folder`, if given, and drawn ones in turn."""
    found = _pictures(folder) if folder else []
    draw = random.Random(seed)
    made = []
    for i in range(count):
        picture = varied(draw.choice(found), seed + i) if found and i % 2 == 0 else drawn(1_000_000 * seed + i)
        made.append(Chat.ask(draw.choice(QUESTIONS), [Image(picture)]))
    return made


def _pictures(folder: Path) -> Sequence[PIL.Image]:
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} with pictures.")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS)
    if not found:
        raise UserError(f"The folder {folder} holds no picture ({', '.join(_ENDINGS)}).")
    return [Image.open(path).pil() for path in found]


def _colour(draw: random.Random) -> tuple[int, int, int]:
    return draw.randrange(256), draw.randrange(256), draw.randrange(256)
