"""ONNX Runtime alone, on all cores at its best batch, with its inputs in place: what nothing that uses the same graph can exceed.

Texts are sorted by their length, so that hardly any padding is computed. Option: `precision`.
"""

import random
import sys
import time

import job
import numpy as np
import onnx_model

BATCHES = (1, 2, 4, 8, 16, 32, 64)
# Of each size as much as shows its rate; the best one is then measured on all items.
PROBE_SECONDS = 2.0


def inputs(given) -> list:
    """The job's items as the graph takes them, one by one. What the pixels are is the same to a graph: there is no picture."""
    if given.kind == "picture":
        seeded = np.random.default_rng(0)
        return [seeded.standard_normal((1, 3, 224, 224), dtype=np.float32) for _ in given.items]
    tokenizer = onnx_model.tokenizer(given)
    tokenizer.no_padding()
    return sorted((onnx_model.ids(tokenizer, [text]) for text in given.items), key=lambda row: row.shape[1])


def together(rows: list) -> np.ndarray:
    longest = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, longest - row.shape[1]))) if row.ndim == 2 else row for row in rows])


def measure(model, made: list, seconds_max: float = float("inf")) -> tuple:
    """(items, seconds) of these batches, or of as many as are done in that time."""
    begin, done = time.perf_counter(), 0
    for batch in made:
        onnx_model.run(model, batch)
        done += len(batch)
        if time.perf_counter() - begin > seconds_max:
            break
    return done, time.perf_counter() - begin


def main() -> None:
    given = job.SimpleNamespace(**job.json.load(sys.stdin))
    model, values = onnx_model.session(given), inputs(given)
    found = {}
    for size in BATCHES:
        if size <= len(values):
            made = [together(batch) for batch in job.batches(values, size)]
            # Short and long texts from the start; the first run of a size makes room for it.
            random.Random(0).shuffle(made)
            onnx_model.run(model, made[0])
            done, took = measure(model, made, PROBE_SECONDS)
            found[size] = done / took
    best = max(found, key=found.get)
    made = [together(batch) for batch in job.batches(values, best)]
    processor = job.processor_seconds()
    done, seconds = measure(model, made)
    processor = job.processor_seconds() - processor
    job.finish(("onnxruntime",), items=done, seconds=seconds, processor_seconds=processor, vector=None, notes=f"batches of {best}")


if __name__ == "__main__":
    main()
