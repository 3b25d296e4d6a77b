"""FastEmbed with its own defaults (pictures in batches of 16, texts of 256) on all cores; 16 threads fetch ahead of it.

It decodes a batch, computes it, and decodes the next. Option: `precision`.
"""

import io
import tempfile
from pathlib import Path

import job
from fastembed import ImageEmbedding
from fastembed.text.clip_embedding import CLIPOnnxEmbedding
from PIL import Image


# Removed when this process ends.
SCRATCH = tempfile.TemporaryDirectory(prefix="clipstream-fastembed-")


class OurText(CLIPOnnxEmbedding):
    """Its class for CLIP's texts, on a graph that calls its input `text` and needs no mask."""

    def _preprocess_onnx_input(self, onnx_input, **_):
        return {"text": onnx_input["input_ids"]}


def folder(given, part: str) -> str:
    """The model as FastEmbed expects it: one folder of graph, tokenizer and preprocessing."""
    made = Path(SCRATCH.name)
    precision = given.options.get("precision", "fp32")
    (made / "model.onnx").symlink_to(Path(given.model).resolve() / part / ("model.onnx" if precision == "fp32" else f"model_{precision}.onnx"))
    for file in Path(given.hugging_face).resolve().glob("*.json"):
        (made / file.name).symlink_to(file)
    return str(made)


def load(given):
    if given.kind == "text":
        return OurText("Qdrant/clip-ViT-B-32-text", threads=given.threads, specific_model_path=folder(given, "textual")).embed
    model = ImageEmbedding("Qdrant/clip-ViT-B-32-vision", threads=given.threads, specific_model_path=folder(given, "visual"))
    # Opened, not decoded: that is FastEmbed's work.
    return lambda urls: model.embed(Image.open(io.BytesIO(data)) for data in job.fetched(urls))


if __name__ == "__main__":
    job.run(load, "fastembed", "onnxruntime", "pillow", "requests", "tokenizers", "numpy")
