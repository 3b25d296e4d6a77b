"""A few seeded pictures, and OpenCLIP's own pixels of any."""

import io

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageDraw


def painting(width: int, height: int, seed: int) -> Image.Image:
    """A seeded picture with slopes, edges and curves."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / random.uniform(6, 25) + y / random.uniform(6, 25) + random.uniform(0, 6)) for _ in range(3)]
    picture = Image.fromarray(((np.stack(waves, -1) + 1) * 127.5).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(4):
        left, top = int(random.integers(0, width * 3 // 4)), int(random.integers(0, height * 3 // 4))
        box = (left, top, left + int(random.integers(6, width // 2)), top + int(random.integers(6, height // 2)))
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)(box, fill=tuple(int(c) for c in random.integers(0, 256, 3)))
    return picture


def pictures() -> dict[str, bytes]:
    """Small encoded pictures by name: a JPEG, one that is taller than wide, one with transparency."""
    transparent = painting(60, 44, 3).convert("RGBA")
    transparent.putalpha(painting(60, 44, 4).convert("L"))
    encoded = {}
    for name, picture, options in (
        # Full colour resolution: the one choice that all decoders make pixels of in the same way.
        ("landscape.jpg", painting(96, 64, 1), {"format": "JPEG", "quality": 90, "subsampling": 0}),
        ("portrait.png", painting(40, 64, 2), {"format": "PNG", "optimize": True}),
        ("transparent.png", transparent, {"format": "PNG", "optimize": True}),
    ):
        buffer = io.BytesIO()
        picture.save(buffer, **options)
        encoded[name] = buffer.getvalue()
    return encoded


def pixels_of(preprocess: dict, encoded: list) -> torch.Tensor:
    """OpenCLIP's own evaluation transform of encoded pictures (bytes, or paths)."""
    transform = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    opened = (Image.open(io.BytesIO(e) if isinstance(e, bytes) else e) for e in encoded)
    return torch.stack([transform(picture) for picture in opened])


def paintings(count: int) -> list[bytes]:
    encoded = []
    for seed in range(count):
        buffer = io.BytesIO()
        painting(96, 72, 100 + seed).save(buffer, format="PNG")
        encoded.append(buffer.getvalue())
    return encoded
