"""sentence-transformers with torch on all cores and its default batches of 32; 16 threads fetch ahead of it.

It preprocesses a batch, computes it, and preprocesses the next. Vectors are not normalised, as by default.
"""

import io

import job
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer

BATCH = 32


def load(given):
    torch.set_num_threads(given.threads)
    model = SentenceTransformer(given.hugging_face, device="cpu", local_files_only=True)
    if given.kind == "text":
        # All in one call, so that it can sort them by length.
        return lambda texts: model.encode(texts, batch_size=BATCH, show_progress_bar=False)

    def embed(urls):
        # Opened, not decoded: that is its own work. A call per batch, because it takes a list: all pictures at once would fill the memory.
        opened = (Image.open(io.BytesIO(data)) for data in job.fetched(urls))
        for batch in job.batches(opened, BATCH):
            yield from model.encode(batch, batch_size=BATCH, show_progress_bar=False)

    return embed


if __name__ == "__main__":
    job.run(load, "sentence-transformers", "transformers", "torch", "torchvision", "pillow", "requests")
