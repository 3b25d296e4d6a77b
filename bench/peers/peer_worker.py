"""The worker that somebody would write in Python: requests on 16 threads, Pillow on a thread per core, ONNX Runtime on all cores in
batches of 16, all at the same time. Options: `precision`; `draft`, Pillow's scaled decoding of JPEGs; `padded`, texts at the whole context.
"""

import io
from concurrent.futures import ThreadPoolExecutor

import job
import numpy as np
import onnx_model
from PIL import Image

SIZE, MEAN, STD = 224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PICTURES, TEXTS = 16, 32


def preprocess(data: bytes, draft: bool) -> np.ndarray:
    """OpenCLIP's evaluation transform without torch: the same steps in the same order, to the same values."""
    picture = Image.open(io.BytesIO(data))
    if draft:
        # Twice the size that is needed, as clipstream's `fast`: half of it would be seen in the vectors.
        picture.draft("RGB", (2 * SIZE, 2 * SIZE))
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    longer = int(SIZE * long / short)
    width, height = (SIZE, longer) if width <= height else (longer, SIZE)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
    picture = picture.crop((left, top, left + SIZE, top + SIZE)).convert("RGB")
    pixels = np.asarray(picture, dtype=np.float32) / np.float32(255)
    return ((pixels - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)


def load(given):
    model, draft = onnx_model.session(given), given.options.get("draft", False)
    if given.kind == "text":
        tokenizer = onnx_model.tokenizer(given, given.options.get("padded", False))
        return lambda texts: (vector for batch in job.batches(texts, TEXTS) for vector in onnx_model.run(model, onnx_model.ids(tokenizer, batch)))

    def embed(urls):
        with ThreadPoolExecutor(given.threads) as decoding:
            # Two batches are decoded or being decoded while a third is computed.
            pixels = job.ahead(decoding, lambda data: preprocess(data, draft), job.fetched(urls), 3 * PICTURES)
            for batch in job.batches(pixels, PICTURES):
                yield from onnx_model.run(model, np.stack(batch))

    return embed


if __name__ == "__main__":
    job.run(load, "onnxruntime", "pillow", "requests", "tokenizers", "numpy")
