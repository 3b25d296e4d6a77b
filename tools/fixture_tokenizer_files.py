"""The small tokenizers of tests/fixtures/tokenizers as files that Transformers opens. fixture_tokenizers.py says how they are packed."""

import json
import struct
import zlib
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "tokenizers"


def write(kind: str, folder: Path) -> None:
    packed = (FIXTURES / f"{kind}.jsonl.zlib").read_bytes()
    text = zlib.decompress(packed[4:])
    assert len(text) == struct.unpack("<I", packed[:4])[0], kind
    files = json.loads(text.split(b"\n", 1)[0])
    # With it, T5's class wants SentencePiece's model beside the file that was made of it.
    files["config"].pop("add_prefix_space", None)
    for name, key in (("tokenizer.json", "tokenizer"), ("tokenizer_config.json", "config")):
        (folder / name).write_text(json.dumps(files[key]), encoding="utf-8")
