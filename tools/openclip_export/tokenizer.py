"""The tokenizer that OpenCLIP has for a model: CLIP's own byte-pair encoding, or one of Transformers behind OpenCLIP's cleaning."""

import json
import tempfile
import warnings
from pathlib import Path

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from . import ExportError, first_line
from .clip_bpe import tokenizer_json

# What is written of a tokenizer of Transformers. Its vocabulary is in the first; other files repeat it in older forms.
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def load(model: str, config: dict, folder: Path = None):
    """OpenCLIP's tokenizer of the model; of the files in `folder` where one is given."""
    text = config["text_cfg"]
    name, length = text.get("hf_tokenizer_name"), text["context_length"]
    if text.get("tokenizer_mode"):
        raise ExportError(f"{model} has the tokenizer mode {text['tokenizer_mode']!r}, expected none: clipstream does not know it")
    if folder is not None and not name:
        raise ExportError(f"{model} has CLIP's own tokenizer; next: leave --tokenizer out")
    if folder is not None and not (folder / "tokenizer.json").is_file():
        raise ExportError(f"--tokenizer {folder} has no tokenizer.json, expected a folder with the files of {name}")
    try:
        if folder is None:
            return open_clip.get_tokenizer(model, context_length=length)
        return HFTokenizer(str(folder), context_length=length, **(text.get("tokenizer_kwargs") or {}))
    except Exception as error:  # every kind of network, hub and parser error
        raise ExportError(
            f"the tokenizer {folder or name} of {model} cannot be loaded ({type(error).__name__}: {first_line(error)}); next: check the network,"
            " or give a folder with its tokenizer.json and tokenizer_config.json with --tokenizer DIR"
        ) from error


def is_clips(tokenizer) -> bool:
    return isinstance(tokenizer, SimpleTokenizer)


def size(tokenizer) -> int:
    """Rows of a token embedding that holds all its ids."""
    return max(tokenizer.encoder.values() if is_clips(tokenizer) else tokenizer.tokenizer.get_vocab().values()) + 1


def padding_id(tokenizer) -> int:
    """What fills a row behind its text."""
    if is_clips(tokenizer):
        return 0
    pad = tokenizer.tokenizer.pad_token_id
    # The separators of the padded row are replaced.
    return 0 if tokenizer.strip_sep_token and pad == tokenizer.tokenizer.sep_token_id else pad


def unpadded(tokenizer, text: str) -> list[int]:
    """Ids of one text without what fills its row."""
    if is_clips(tokenizer):
        row = tokenizer([text])[0]
        return row[: int((row == tokenizer.eot_token_id).nonzero()[0]) + 1].tolist()
    whole = tokenizer([text])[0]
    length = len(tokenizer.tokenizer(tokenizer.clean_fn(text), max_length=tokenizer.context_length, truncation=True).input_ids)
    return whole[:length].tolist()


def write(tokenizer, folder: Path) -> None:
    """Its files into `folder`."""
    if is_clips(tokenizer):
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(tokenizer), ensure_ascii=False) + "\n", encoding="utf-8")
        return
    # What the last call asked for is no part of the tokenizer.
    tokenizer.tokenizer.backend_tokenizer.no_truncation()
    tokenizer.tokenizer.backend_tokenizer.no_padding()
    with tempfile.TemporaryDirectory() as saved, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer.save_pretrained(saved)
        for name in FILES:
            source = Path(saved) / name
            if source.is_file():
                content = json.loads(source.read_text(encoding="utf-8"))
                if name == "tokenizer_config.json":
                    for place in ("name_or_path", "vocab_file", "tokenizer_file"):  # paths of this machine
                        content.pop(place, None)
                indent = None if name == "tokenizer.json" else 2
                (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def facts(tokenizer, config: dict) -> dict:
    """What the manifest says of it."""
    arguments = config["text_cfg"].get("tokenizer_kwargs") or {}
    own = is_clips(tokenizer)
    return {
        "tokenizer": "clip_bpe" if own else "hugging_face",
        "repository": None if own else config["text_cfg"].get("hf_tokenizer_name"),
        "cleaning": "lower" if own else arguments.get("clean", "whitespace"),
        "strip_separator": bool(arguments.get("strip_sep_token", False)),
        # NLLB's, whose code is before every text.
        "language": None if own else getattr(tokenizer.tokenizer, "src_lang", None),
        "padding_id": padding_id(tokenizer),
    }


def check(model: str, tokenizer, rows: int) -> None:
    """Whether the text tower knows all ids."""
    if size(tokenizer) > rows:
        raise ExportError(
            f"the tokenizer of {model} gives ids up to {size(tokenizer) - 1}, and the text tower knows {rows} tokens; next: --tokenizer DIR with"
            " the files of this model"
        )


def rows_of(model: torch.nn.Module) -> int:
    """Rows of the text tower's token embedding."""
    text = getattr(model, "text", model)
    if hasattr(text, "token_embedding"):
        return text.token_embedding.num_embeddings
    return text.transformer.get_input_embeddings().num_embeddings
