"""Makes what all are measured on: photos of 12 megapixels and of 1200 x 1200 pixels, small WebP pictures, captions.

usage: sets.py FOLDER   (with the Python of tools/requirements-export.txt)
Seeded: the same files on every machine with the same Pillow. Writes 12mp/, 1200px/, webp/ and captions.txt.
"""

import random
import shutil
import sys
from pathlib import Path

import numpy as np
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

CATALOG = Path(__file__).resolve().parent.parent.parent / "demo" / "catalog" / "images"
# Side of the largest structures, in pixels: a power of two.
LARGEST = 1024
CAPTIONS, TOKENS = 8192, range(8, 14)

ADJECTIVES = "red blue green white black small large old new wooden metal round soft dark bright plain striped vintage modern cotton".split()
NOUNS = "shoe lamp chair table bag coat dress watch bottle cup bowl shirt jacket clock bike car boat house tree flower dog cat hat phone ring".split()
PLACES = "on a table,in a garden,by the sea,at night,on white,in the snow,near a window,on the street,in a shop,under a tree".split(",")
OPENINGS = "a photo of a,picture of a,a,the,two photos of a,close up of a".split(",")


def photo(width: int, height: int, seed: int) -> Image.Image:
    """The photo of src/bench/photo.rs: smooth noise on every scale from 2 to 1,024 pixels, weaker the smaller it is, and grain.

    Made from coarse to fine, each step twice the size of the one before. What a decoder has to do is that of a photo.
    """
    noise = np.random.default_rng(seed)
    step = LARGEST
    sums = np.full((height // step + 3, width // step + 3, 3), 110, dtype=np.float32)
    while step >= 2:
        light, colours = noise.standard_normal(sums.shape[:2] + (1,), dtype=np.float32), noise.standard_normal(sums.shape, dtype=np.float32)
        sums += 36 * (step / LARGEST) ** 0.45 * (light + 0.35 * colours)
        step //= 2
        size = (min(2 * sums.shape[1], width // step + 3), min(2 * sums.shape[0], height // step + 3))
        box = (0, 0, size[0] / 2, size[1] / 2)
        sums = np.stack([np.asarray(Image.fromarray(sums[:, :, c]).resize(size, Image.Resampling.BILINEAR, box=box)) for c in range(3)], -1)
    sums = sums[:height, :width] + 3.2 * noise.standard_normal((height, width, 1), dtype=np.float32)
    return Image.fromarray(np.clip(sums, 0, 255).astype(np.uint8))


def photos(folder: Path, count: int, width: int, height: int, seed: int) -> None:
    folder.mkdir()
    for n in range(count):
        photo(width, height, seed + n).save(folder / f"{n:02}.jpg", quality=92, subsampling="4:2:0")


def small(folder: Path, count: int) -> None:
    """The demo catalog's own pictures, evenly spread: 256 x 256, some with transparency, as shops have them."""
    folder.mkdir()
    found = sorted(CATALOG.glob("*.webp"))
    for n in range(count):
        shutil.copy(found[n * len(found) // count], folder / f"{n:02}.webp")


def captions(count: int) -> list:
    """Different captions, each of 8 to 13 tokens with start and end."""
    choose, tokenizer, found = random.Random(0), SimpleTokenizer(), {}
    while len(found) < count:
        words = [choose.choice(OPENINGS), *choose.sample(ADJECTIVES, choose.randint(1, 3)), choose.choice(NOUNS)]
        text = " ".join([*words, choose.choice(PLACES)] if choose.random() < 0.5 else [*words, *choose.sample(ADJECTIVES, choose.randint(0, 2))])
        if len(tokenizer.encode(text)) + 2 in TOKENS:
            found[text] = None
    return list(found)


def main(folder: Path) -> None:
    photos(folder / "12mp", 12, 4000, 3000, seed=1200)
    photos(folder / "1200px", 60, 1200, 1200, seed=100)
    small(folder / "webp", 60)
    (folder / "captions.txt").write_text("\n".join(captions(CAPTIONS)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
