"""clipstream as a row: the commands, and what their output says. It fetches, embeds and stores; the peers only keep a list."""

import json
import os
from pathlib import Path

import machine
from prepared import MODEL, Failed


def settings(model: Path, port: int, store: Path, options: dict) -> list:
    given = {"clip.models": f"{MODEL}={model}", "store.path": store, "media.allow_hosts": f"127.0.0.1:{port}", **options}
    return [word for key, value in given.items() for word in ("--set", f"{key}={value}")]


def environment() -> dict:
    """Without what the user has set for clipstream: defaults are measured. Where ONNX Runtime is stays."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CLIPSTREAM_") or name == "CLIPSTREAM_ORT_DYLIB"}


def index(binary: Path, kind: str, items: list, set: list, folder: Path, own: tuple) -> tuple:
    """Indexes these items into a new store: (the child, its report)."""
    field = "image" if kind == "picture" else "text"
    lines = folder / "items.jsonl"
    lines.write_text("".join(json.dumps({"id": f"{n}", field: item}) + "\n" for n, item in enumerate(items)))
    ran = machine.run([str(binary), "index", str(lines), "--json", *set], cwd=folder, env=environment(), own=own)
    report = last_line(ran)
    if report["messages"] != len(items) or report["dead_letters"]:
        raise Failed(f"clipstream index settled {report['messages']} of {len(items)} messages, {report['dead_letters']} as dead letters")
    return ran, report


def embed(binary: Path, kind: str, item: str, set: list, folder: Path, own: tuple) -> tuple:
    """Embeds one item as a user would at the command line: (the child, the vector)."""
    what = "image" if kind == "picture" else "text"
    ran = machine.run([str(binary), "embed", what, *set, "--", item], cwd=folder, env=environment(), own=own)
    return ran, last_line(ran)["embedding"]


def version(binary: Path) -> str:
    ran = machine.run([str(binary), "--version"], env=environment())
    return ran.stdout.strip().splitlines()[0] if ran.stdout.strip() else "unknown"


def last_line(ran: machine.Ran) -> dict:
    if ran.code != 0 or not ran.stdout.strip():
        raise Failed(f"clipstream ended with {ran.code}: {machine.shortened(ran.stderr) or machine.shortened(ran.stdout)}")
    return json.loads(ran.stdout.strip().splitlines()[-1])
