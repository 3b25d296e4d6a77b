"""What is measured: the rows of the table, and the sets that they are measured on."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Set:
    name: str
    title: str
    kind: str  # "picture" or "text"
    # Items per core and run: ten seconds or more of the model on a core of 2026.
    per_core: int
    is_jpeg: bool = False


@dataclass(frozen=True)
class Row:
    name: str
    peer: str
    title: str
    options: dict = field(default_factory=dict)
    # "jpeg": only where scaled decoding exists; "text": captions alone.
    only: str = ""
    # A set's items are so many times fewer, where a run would take minutes.
    fewer: dict = field(default_factory=dict)

    def takes_kind(self, kind: str) -> bool:
        return self.only in ("", kind) or (self.only == "jpeg" and kind == "picture")

    def takes(self, set: Set) -> bool:
        return not self.only or (self.only == "jpeg" and set.is_jpeg) or self.only == set.kind


SETS = (
    Set("12mp", "JPEG of 12 megapixels", "picture", 48, is_jpeg=True),
    Set("1200px", "JPEG of 1200 x 1200", "picture", 96, is_jpeg=True),
    Set("webp", "WebP of 256 x 256", "picture", 160),
    Set("texts", "captions of 8 to 13 tokens", "text", 1000),
)

ROWS = (
    Row("clipstream", "clipstream", "clipstream, defaults"),
    Row("clipstream-fast", "clipstream", "clipstream, `clip.preprocess=fast`", {"clip.preprocess": "fast"}, only="jpeg"),
    Row("clipstream-int8", "clipstream", "clipstream, `clip.precision=int8`", {"clip.precision": "int8"}),
    Row("worker", "worker", "worker in Python, OpenCLIP's pixels; texts to their longest"),
    Row("worker-draft", "worker", "worker in Python, Pillow's `draft`", {"draft": True}, only="jpeg"),
    Row("worker-padded", "worker", "worker in Python, texts padded to 77", {"padded": True}, only="text", fewer={"texts": 4}),
    Row("worker-int8", "worker", "worker in Python, int8", {"precision": "int8"}),
    Row("fastembed", "fastembed", "FastEmbed"),
    Row("fastembed-int8", "fastembed", "FastEmbed, int8", {"precision": "int8"}),
    Row("sentence-transformers", "sentence-transformers", "sentence-transformers (torch)"),
    Row("infinity", "infinity", "infinity (torch)"),
    Row("embed-anything", "embed-anything", "EmbedAnything (candle), pictures from a folder", fewer={"texts": 8}),
    Row("onnxruntime", "onnxruntime", "limit: ONNX Runtime alone"),
    Row("onnxruntime-int8", "onnxruntime", "limit: ONNX Runtime alone, int8", {"precision": "int8"}),
)

PEERS = tuple(dict.fromkeys(row.peer for row in ROWS))
# Whose environment a peer's script runs in; clipstream has none.
ENVIRONMENTS = {peer: peer for peer in PEERS if peer != "clipstream"} | {"onnxruntime": "worker"}


def chosen(names: list, all_of: tuple, what: str) -> tuple:
    """Those of `all_of` with one of these names; a row also by that of its peer."""
    known = {name for one in all_of for name in (one.name, getattr(one, "peer", one.name))}
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is none of the {what}: {', '.join(sorted(known))}")
    return tuple(one for one in all_of if not names or one.name in names or getattr(one, "peer", None) in names)
