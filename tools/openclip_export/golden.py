"""A few inputs and the vectors that OpenCLIP gives for them, kept beside a model so that anyone can check it later."""

import base64
import io

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageDraw

from .checkpoint import Exported

# What a precision must keep of OpenCLIP's fp32 vectors; a checkpoint that keeps less has its own, lower floor.
COSINE_MIN = {"fp32": 0.99999, "fp16": 0.999, "int8": 0.98}

TEXTS = (
    "a photo of a red shoe",
    "Caf\u00e9 &amp; Cr\u00e8me: two cups, 3.50 \u20ac \u2615",
    "a long description of a small wooden boat on a quiet lake below the mountains in the evening, " * 4,
)


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


def preprocess(exported: Exported, encoded: list) -> torch.Tensor:
    """OpenCLIP's own evaluation transform of encoded pictures (bytes, or paths)."""
    transform = image_transform_v2(PreprocessCfg(**exported.preprocess), is_train=False)
    opened = (Image.open(io.BytesIO(e) if isinstance(e, bytes) else e) for e in encoded)
    return torch.stack([transform(picture) for picture in opened])


def vectors(exported: Exported, pixels: torch.Tensor = None, ids: torch.Tensor = None) -> np.ndarray:
    """What OpenCLIP's model itself gives: the reference of everything here."""
    with torch.no_grad():
        found = exported.model.encode_text(ids, normalize=True) if pixels is None else exported.model.encode_image(pixels, normalize=True)
    return found.float().numpy()


def trimmed(exported: Exported, ids: torch.Tensor) -> list[int]:
    """Ids of one padded text without what comes after its end."""
    return ids[: int((ids == exported.tokenizer.eot_token_id).nonzero()[0]) + 1].tolist()


def make(exported: Exported, floors: dict) -> dict:
    """The content of golden.json."""
    encoded = pictures()
    ids = exported.tokenizer(list(TEXTS))
    images = vectors(exported, pixels=preprocess(exported, list(encoded.values())))
    return {
        "format": 1,
        "model": exported.id,
        "made_with": f"OpenCLIP {open_clip.__version__}, PyTorch {torch.__version__.split('+')[0]}, fp32",
        "cosine_min": floors,
        "texts": [
            {"text": text, "tokens": trimmed(exported, row), "vector": _numbers(vector)}
            for text, row, vector in zip(TEXTS, ids, vectors(exported, ids=ids))
        ],
        "images": [
            {"name": name, "data": base64.b64encode(data).decode(), "vector": _numbers(vector)}
            for (name, data), vector in zip(encoded.items(), images)
        ],
    }


def _numbers(vector: np.ndarray) -> list[float]:
    return [float(f"{value:.9g}") for value in vector]


