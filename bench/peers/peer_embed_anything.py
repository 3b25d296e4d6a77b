"""EmbedAnything with candle, as it comes. It embeds pictures of a folder and does not fetch: the files are there before it begins."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import hub
import job
from embed_anything import EmbeddingModel, embed_image_directory, embed_query

NAME, REVISION = "local/clip", "main"


def loaded(model: Path) -> EmbeddingModel:
    serve = [sys.executable, hub.__file__, str(model)]
    with (
        tempfile.TemporaryDirectory(prefix="clipstream-embed-anything-") as cache,
        subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
    ):
        hub.cache(Path(cache), model, NAME, REVISION)
        os.environ |= {"HF_HOME": cache, "HF_ENDPOINT": f"http://127.0.0.1:{int(server.stdout.readline())}"}
        return EmbeddingModel.from_pretrained_hf(model_id=NAME, revision=REVISION)


def folder_of(files: list) -> tempfile.TemporaryDirectory:
    """These pictures as the files of a folder, named in their order. Hard links, and so beside the sets: it follows no others."""
    folder = tempfile.TemporaryDirectory(prefix=".embed-anything-", dir=Path(files[0]).parent.parent.parent)
    for n, file in enumerate(map(Path, files)):
        os.link(file, Path(folder.name) / f"{n:06}{file.suffix}")
    return folder


def load(given):
    model = loaded(Path(given.hugging_face).resolve())
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
