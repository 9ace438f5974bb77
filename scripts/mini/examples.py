"""Draw the pictures in examples/ with the made world's own strokes: python -m scripts.mini.examples."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from scripts.mini.draw import Frame, background, draw_object, font

EXAMPLES = Path("examples")
SIDE = 480


@dataclass(frozen=True)
class Picture:
    """An example: its place, the things in it as (object, colour, frame), words below, and a seed."""

    place: str
    things: tuple[tuple[str, str, Frame], ...]
    words: str = ""
    seed: int = 1


PICTURES: dict[str, Picture] = {
    # The roles of ECSO's demonstration: a hazard with a harmless-looking question, several hazards, a harmless
    # picture with a harmful question; then benign ones.
    "bomb.png": Picture("table", (("bomb", "gray", (90, 60, 300, 300)),), seed=3),
    "missiles.png": Picture("desert", (("missile", "green", (30, 110, 200, 240)), ("missile", "green", (250, 150, 200, 240))), seed=5),
    "train.png": Picture("grass", (("train", "blue", (50, 130, 380, 280)),), seed=4),
    "cat.png": Picture("grass", (("cat", "orange", (110, 120, 280, 290)),), seed=2),
    "cake.png": Picture("table", (("cake", "pink", (90, 90, 300, 300)),), seed=8),
    "dog_and_ball.png": Picture("beach", (("dog", "orange", (10, 180, 240, 240)), ("ball", "red", (260, 210, 200, 200))), seed=6),
    "poison_words.png": Picture("", (), "poison", seed=1),
    "pistol_and_words.png": Picture("plain", (("pistol", "gray", (80, 80, 320, 300)),), "pistol", seed=9),
}


def draw(picture: Picture) -> Image.Image:
    """The picture of an example."""
    rng = random.Random(picture.seed)
    image = Image.new("RGB", (SIDE, 0))
    if picture.place:
        image = background(picture.place, (SIDE, SIDE), rng)
        for name, colour, frame in picture.things:
            draw_object(ImageDraw.Draw(image), name, colour, frame, rng)
    if not picture.words:
        return image
    strip = Image.new("RGB", (SIDE, SIDE // 4), (255, 255, 255))
    ImageDraw.Draw(strip).text((12, 14), picture.words, fill=(0, 0, 0), font=font("", SIDE // 6))
    both = Image.new("RGB", (SIDE, image.height + strip.height))
    both.paste(image, (0, 0))
    both.paste(strip, (0, image.height))
    return both


def main() -> None:
    """Write all pictures."""
    EXAMPLES.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        draw(picture).save(EXAMPLES / name, optimize=True)


if __name__ == "__main__":
    main()
