"""A few inputs and the vectors that OpenCLIP gives for them, kept beside a model so that anyone can check it later."""

import base64

import numpy as np
import open_clip
import torch

from . import tokenizer
from .checkpoint import Exported
from .pictures import pictures, pixels_of

# What a precision must keep of OpenCLIP's fp32 vectors; a checkpoint that keeps less has its own, lower floor.
COSINE_MIN = {"fp32": 0.99999, "fp16": 0.999, "int8": 0.99}

TEXTS = (
    "a photo of a red shoe",
    "Caf\u00e9 &amp; Cr\u00e8me: two cups, 3.50 \u20ac \u2615",
    "a long description of a small wooden boat on a quiet lake below the mountains in the evening, " * 4,
)


def preprocess(exported: Exported, encoded: list) -> torch.Tensor:
    """OpenCLIP's own evaluation transform of encoded pictures (bytes, or paths)."""
    return pixels_of(exported.preprocess, encoded)


def vectors(exported: Exported, pixels: torch.Tensor = None, ids: torch.Tensor = None) -> np.ndarray:
    """What OpenCLIP's model itself gives: the reference of everything here."""
    with torch.no_grad():
        found = exported.model.encode_text(ids, normalize=True) if pixels is None else exported.model.encode_image(pixels, normalize=True)
    return found.float().numpy()


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
            {"text": text, "tokens": tokenizer.unpadded(exported.tokenizer, text), "vector": _numbers(vector)}
            for text, vector in zip(TEXTS, vectors(exported, ids=ids))
        ],
        "images": [
            {"name": name, "data": base64.b64encode(data).decode(), "vector": _numbers(vector)}
            for (name, data), vector in zip(encoded.items(), images)
        ],
    }


def _numbers(vector: np.ndarray) -> list[float]:
    return [float(f"{value:.9g}") for value in vector]


