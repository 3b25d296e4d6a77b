"""Measures the model on the catalog, files as shipped: python recall.py [DEMO_FOLDER]

Text to picture with every name as the query, once with pictures composed on white (this model's way) and once with the alpha channel
dropped after the resize (OpenCLIP's way). Independent of clipstream: ONNX Runtime, Pillow, tokenizers, numpy.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

CONTEXT_LENGTH, BATCH = 77, 256


def on_white(picture, size):
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB").resize((size, size), Image.BICUBIC)


def alpha_dropped(picture, size):
    return picture.resize((size, size), Image.BICUBIC).convert("RGB")


def embed(path, values):
    session = onnxruntime.InferenceSession(str(path))
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: values[i : i + BATCH]})[0] for i in range(0, len(values), BATCH)])


def main(demo):
    model, catalog = demo / "model", demo / "catalog"
    records = [json.loads(line) for line in (catalog / "catalog.jsonl").read_text(encoding="utf-8").splitlines()]
    preprocess = json.loads((model / "visual" / "preprocess_cfg.json").read_text())
    size, mean, std = preprocess["size"][0], np.float32(preprocess["mean"]), np.float32(preprocess["std"])

    tokenizer = Tokenizer.from_file(str(model / "textual" / "tokenizer.json"))
    tokenizer.enable_padding(length=CONTEXT_LENGTH)
    tokenizer.enable_truncation(CONTEXT_LENGTH)
    ids = np.array([tokenizer.encode(record["text"].lower()).ids for record in records], dtype=np.int64)
    queries = embed(model / "textual" / "model.onnx", ids)

    print("transparency      R@1    R@5    R@10")
    for render in (on_white, alpha_dropped):
        pictures = [render(Image.open(catalog / record["image"]).convert("RGBA"), size) for record in records]
        pixels = (np.stack([np.asarray(picture, np.float32) for picture in pictures]) / 255 - mean) / std
        vectors = embed(model / "visual" / "model.onnx", pixels.transpose(0, 3, 1, 2).copy())
        best = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
        hit = best == np.arange(len(records))[:, None]
        print(f"{render.__name__:<16}", *(f"{hit[:, :k].any(1).mean():.3f} " for k in (1, 5, 10)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
