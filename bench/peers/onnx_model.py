"""The model's ONNX graphs and tokenizer, for the peers that call ONNX Runtime themselves."""

from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

CONTEXT_LENGTH = 77


def session(job) -> onnxruntime.InferenceSession:
    """The tower that the job needs, at the precision of its row, on all of its threads."""
    part = "visual" if job.kind == "picture" else "textual"
    precision = job.options.get("precision", "fp32")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    graph = Path(job.model) / part / ("model.onnx" if precision == "fp32" else f"model_{precision}.onnx")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run(loaded: onnxruntime.InferenceSession, values: np.ndarray) -> np.ndarray:
    return loaded.run(None, {loaded.get_inputs()[0].name: values})[0]


def tokenizer(job, padded: bool = False) -> Tokenizer:
    """Pads a batch to its longest text, or `padded` to the whole context, as OpenCLIP's own tokenizer does."""
    loaded = Tokenizer.from_file(str(Path(job.model) / "textual" / "tokenizer.json"))
    loaded.enable_truncation(CONTEXT_LENGTH)
    loaded.enable_padding(pad_id=0, length=CONTEXT_LENGTH if padded else None)
    return loaded


def ids(loaded: Tokenizer, texts: list) -> np.ndarray:
    return np.array([encoding.ids for encoding in loaded.encode_batch(texts)], dtype=np.int64)
