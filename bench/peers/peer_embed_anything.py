"""EmbedAnything with candle, as it comes. It embeds pictures of a folder and does not fetch: the files are there before it begins."""

import os
import tempfile
from pathlib import Path

import job

# It takes a model from a hub's cache and no folder; removed when this process ends.
SCRATCH = tempfile.TemporaryDirectory(prefix="clipstream-embed-anything-")
os.environ |= {"HF_HOME": SCRATCH.name, "HF_HUB_OFFLINE": "1"}
NAME, REVISION = "local/clip", "main"

from embed_anything import EmbeddingModel, embed_image_directory, embed_query  # noqa: E402


def in_a_cache(model: Path) -> None:
    repository = Path(SCRATCH.name) / "hub" / f"models--{NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / REVISION).write_text("0")
    for file in model.resolve().iterdir():
        (snapshot / file.name).symlink_to(file)


def folder_of(files: list) -> tempfile.TemporaryDirectory:
    """These pictures as the files of a folder, named in their order. Hard links, and so beside the sets: it follows no others."""
    folder = tempfile.TemporaryDirectory(prefix=".embed-anything-", dir=Path(files[0]).parent.parent.parent)
    for n, file in enumerate(map(Path, files)):
        os.link(file, Path(folder.name) / f"{n:06}{file.suffix}")
    return folder


def load(given):
    in_a_cache(Path(given.hugging_face))
    model = EmbeddingModel.from_pretrained_hf(model_id=NAME, revision=REVISION)
    if given.kind == "text":
        return lambda texts: [found.embedding for found in embed_query(texts, embedder=model)]
    measured, warm_up = folder_of(given.files), folder_of([given.warm_up_file or given.files[0]])

    def embed(urls: list) -> list:
        folder = warm_up if urls == [given.warm_up] else measured
        found = embed_image_directory(folder.name, embedder=model)
        # They come in the order in which they were ready; `text` is the file's path.
        return [one.embedding for one in sorted(found, key=lambda one: one.text)]

    return embed


if __name__ == "__main__":
    job.run(load, "embed-anything")
