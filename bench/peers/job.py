"""What the peers have in common: a job as JSON on standard input, a result as the last line of standard output.

A job: `kind` ("picture" or "text"), `items` (URLs or texts), `files` (the same pictures on this machine), `warm_up` (an item that is not
measured, or null) and its `warm_up_file`, `threads`, `model` (a folder of clipstream), `hugging_face` (the same model as a `CLIPModel`),
`options` (the row's own).
A result: `items`, `seconds` and `processor_seconds` from a loaded model to the last vector, `vector` (of the first item), `versions`, `notes`.
"""

import collections
import importlib.metadata
import json
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

FETCHING = 16
# As many as the largest batch of any peer, twice: the next one is there while this one is computed.
FETCHED_AHEAD = 64


def run(load, *packages: str) -> None:
    """Does the job on standard input: `load(job)` gives the function from a list of items to their vectors, in order."""
    job = SimpleNamespace(**json.load(sys.stdin))
    embed = load(job)
    if job.warm_up is not None:
        list(embed([job.warm_up]))
    begin, processor = time.perf_counter(), processor_seconds()
    vectors = list(embed(job.items))
    seconds, processor = time.perf_counter() - begin, processor_seconds() - processor
    if len(vectors) != len(job.items):
        sys.exit(f"{len(vectors)} vectors for {len(job.items)} items")
    finish(items=len(vectors), seconds=seconds, processor_seconds=processor, vector=[float(x) for x in vectors[0]], packages=packages)


def finish(packages: tuple, **result) -> None:
    versions = {name: importlib.metadata.version(name) for name in packages}
    print("\n" + json.dumps({**result, "versions": versions}), flush=True)


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def ahead(pool: ThreadPoolExecutor, function, items, count: int):
    """`map(function, items)` in order, with `count` of them under way in the pool: a bound on memory."""
    under_way, items = collections.deque(), iter(items)
    while True:
        while len(under_way) < count:
            try:
                under_way.append(pool.submit(function, next(items)))
            except StopIteration:
                break
        if not under_way:
            return
        yield under_way.popleft().result()


def fetched(urls, count: int = FETCHED_AHEAD):
    """The bodies of these URLs, in order: for peers that do not fetch themselves, 16 threads do it ahead of them."""
    import requests

    of_thread = threading.local()

    def get(url: str) -> bytes:
        if not hasattr(of_thread, "session"):
            of_thread.session = requests.Session()
        answer = of_thread.session.get(url, timeout=60)
        answer.raise_for_status()
        return answer.content

    with ThreadPoolExecutor(FETCHING) as pool:
        yield from ahead(pool, get, urls, count)


def batches(items, size: int):
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
