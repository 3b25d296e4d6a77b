"""infinity's engine in this process, with torch on all cores and its default batches of at most 32; it fetches pictures itself.

As a client of its server would, it is given several calls at a time, so that it can fetch and decode while it computes.
"""

import asyncio
import os

# Its default forbids it to fetch from this machine.
os.environ["INFINITY_MEDIA_URL_BLACKLIST"] = ""
os.environ["DO_NOT_TRACK"] = "1"

import job  # noqa: E402
import torch  # noqa: E402
from infinity_emb import AsyncEmbeddingEngine, EngineArgs  # noqa: E402

CALLS, PICTURES = 4, 16


async def pictures(engine, urls: list) -> list:
    turn = asyncio.Semaphore(CALLS)

    async def call(batch: list) -> list:
        async with turn:
            return (await engine.image_embed(images=batch))[0]

    return [vector for found in await asyncio.gather(*(call(batch) for batch in job.batches(urls, PICTURES))) for vector in found]


def load(given):
    torch.set_num_threads(given.threads)
    loop = asyncio.new_event_loop()
    # Without its warm-up of the largest batch, which all peers would have to wait for: one item is the warm-up here.
    arguments = EngineArgs(model_name_or_path=given.hugging_face, engine="torch", device="cpu", model_warmup=False)
    engine = AsyncEmbeddingEngine.from_args(arguments)
    loop.run_until_complete(engine.astart())

    def embed(items: list) -> list:
        if given.kind == "text":
            # All in one call, so that it can sort them by length.
            return loop.run_until_complete(engine.embed(sentences=items))[0]
        return loop.run_until_complete(pictures(engine, items))

    return embed


if __name__ == "__main__":
    job.run(load, "infinity-emb", "transformers", "torch", "pillow", "aiohttp")
    # Its threads have no end of their own that could be waited for.
    os._exit(0)
