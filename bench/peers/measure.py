"""One run of one row: items per second, memory, processor time, and how it began."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import clipstream
import machine
import prepared
from rows import Row, Set

HERE = Path(__file__).resolve().parent
# A run in which others took too much of the machine is done again, this often.
REPEATS_MAX = 2


@dataclass
class Bench:
    binary: Path
    model: Path
    hugging_face: Path | None
    pictures: Path
    pythons: dict  # by peer
    server: subprocess.Popen
    port: int
    items: int | None  # instead of each set's own number
    wait: float  # for a quiet machine before each run, in seconds

    def captions(self) -> list:
        return (self.pictures / "captions.txt").read_text(encoding="utf-8").splitlines()

    def count(self, set: Set) -> int:
        """As many items as this machine's cores are busy with for a while."""
        return self.items or set.per_core * machine.cores()

    def items_of(self, row: Row, set: Set) -> tuple:
        """(items, files) of a run. A picture comes again under another URL."""
        count = max(1, self.count(set) // row.fewer.get(set.name, 1))
        if set.kind == "text":
            lines = self.captions()
            return [lines[n % len(lines)] for n in range(count)], []
        files = sorted((self.pictures / set.name).iterdir())
        chosen = [files[n % len(files)] for n in range(count)]
        return [self.url(set.name, file, n // len(files)) for n, file in enumerate(chosen)], chosen

    def url(self, set_name: str, file: Path, copy: int) -> str:
        return f"http://127.0.0.1:{self.port}/{set_name}/{file.name}?copy={copy}"

    def one_of(self, kind: str) -> tuple:
        """The item that a start is measured with: a square picture, which all crop in the same way."""
        if kind == "text":
            return self.captions()[0], None
        file = sorted((self.pictures / "1200px").iterdir())[0]
        return self.url("1200px", file, 0), file

    def run(self, row: Row, set: Set) -> dict:
        """A run on a quiet machine, or the least disturbed one of several."""
        tried = []
        for _ in range(1 + REPEATS_MAX if self.wait else 1):
            quiet = machine.wait_for_quiet(self.wait)
            tried.append(self._run(row, set) | {"began_quiet": quiet})
            if tried[-1]["others"] <= machine.DISTURBED:
                break
        best = min(tried, key=lambda found: found["others"])
        return best | {"disturbed": best["others"] > machine.DISTURBED}

    def _run(self, row: Row, set: Set) -> dict:
        items, files = self.items_of(row, set)
        if row.peer == "clipstream":
            with tempfile.TemporaryDirectory(prefix="clipstream-bench-") as folder:
                ran, report = clipstream.index(self.binary, set.kind, items, self._settings(row, folder), Path(folder), self._own())
            found = {"items": report["messages"], "seconds": report["seconds"], "processor_seconds": None}
        else:
            ran, found = self._peer(row, set.kind, items, files, self._warm_up(set.kind))
        found |= {"rate": found["items"] / found["seconds"], "peak_mb": ran.peak_mb, "others": ran.others, "wall_seconds": ran.seconds}
        return found | {"whole_processor_seconds": ran.processor_seconds}

    def start(self, row: Row, kind: str) -> dict:
        """From nothing to the vector of one item, and the end of the process."""
        quiet = machine.wait_for_quiet(self.wait)
        item, file = self.one_of(kind)
        if row.peer != "clipstream":
            ran, found = self._peer(row, kind, [item], [file] if file else [], None)
            return {
                "seconds": ran.seconds,
                "vector": found["vector"],
                "versions": found["versions"],
                "others": ran.others,
                "began_quiet": quiet,
                "peak_mb": ran.peak_mb,
            }
        with tempfile.TemporaryDirectory(prefix="clipstream-bench-") as folder:
            given = (self._settings(row, folder), Path(folder), self._own())
            ran, vector = clipstream.embed(self.binary, kind, item, *given)
            # `index` reports no processor time of its own: that of one item is taken off.
            indexed, _ = clipstream.index(self.binary, kind, [item], *given)
        found = {"seconds": ran.seconds, "vector": vector, "others": ran.others, "began_quiet": quiet, "peak_mb": ran.peak_mb}
        return found | {"indexed_processor_seconds": indexed.processor_seconds, "indexed_seconds": indexed.seconds}

    def preprocess(self, python: Path) -> dict:
        """Decoding, resizing and normalising alone on one core, by clipstream and by OpenCLIP's own transform: `bench preprocess`."""
        machine.wait_for_quiet(self.wait)
        command = [str(self.binary), "bench", "preprocess", "--peers", str(python), "--json"]
        return clipstream.last_line(machine.run(command, cwd=prepared.PROJECT, env=clipstream.environment()))

    def _settings(self, row: Row, folder: str) -> list:
        return clipstream.settings(self.model, self.port, Path(folder) / "store", row.options)

    def _own(self) -> tuple:
        return (self.server.pid, "self")

    def _warm_up(self, kind: str) -> str:
        item, _ = self.one_of(kind)
        return item if kind == "text" else f"{item}&warm=up"

    def _peer(self, row: Row, kind: str, items: list, files: list, warm_up) -> tuple:
        script = HERE / f"peer_{row.peer.replace('-', '_')}.py"
        warm_up_file = str(self.one_of(kind)[1]) if warm_up and kind == "picture" else None
        job = {
            "kind": kind, "items": items, "files": [str(file) for file in files], "warm_up": warm_up, "warm_up_file": warm_up_file,
            "threads": machine.cores(), "model": str(self.model), "hugging_face": str(self.hugging_face or ""), "options": row.options,
        }  # fmt: skip
        ran = machine.run([str(self.pythons[row.peer]), str(script)], stdin=json.dumps(job), own=self._own())
        if ran.code != 0:
            raise prepared.Failed(f"{row.name} ended with {ran.code}: {machine.shortened(ran.stderr)}")
        return ran, json.loads(ran.stdout.strip().splitlines()[-1])


def serve(pictures: Path) -> tuple:
    """The web server and its port. It ends with its standard input, which this process holds."""
    folders = [str(pictures / name) for name in ("12mp", "1200px", "webp")]
    server = subprocess.Popen([sys.executable, str(HERE / "server.py"), *folders], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return server, int(server.stdout.readline())
