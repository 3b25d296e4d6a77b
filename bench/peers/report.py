"""What was measured, as tables for people and as JSON."""

import math
import statistics
from dataclasses import dataclass, field

import clipstream
import prepared

# Whose vectors the others' are compared with: the first of these that ran. Both compute OpenCLIP's pixels with OpenCLIP's weights.
REFERENCES = ("worker", "clipstream")


@dataclass
class Found:
    date: object
    runs: int
    machine: dict
    bench: object
    sets: tuple
    rows: tuple
    # By row and by set, or by row and kind for starts: one entry per run.
    results: dict = field(default_factory=dict)
    failed: dict = field(default_factory=dict)
    preprocess: dict | None = None

    def add(self, row, name: str, result: dict) -> None:
        self.results.setdefault((row.name, name), []).append(result)

    def of(self, row, name: str, value) -> list:
        return [value(result) for result in self.results.get((row.name, name), ())]

    def median(self, row, name: str, key: str):
        return _median(self.of(row, name, lambda result: result[key]))

    def rates(self, row, one) -> list:
        return self.of(row, one.name, lambda result: result["rate"])

    def processor_ms(self, row, one) -> float | None:
        """Per item, without start-up."""
        if row.peer != "clipstream":
            spent = self.of(row, one.name, lambda result: 1e3 * result["processor_seconds"] / result["items"])
            return _median(spent)
        first = _median(self.of(row, one.kind, lambda result: result["indexed_processor_seconds"]))
        if first is None:
            return None
        return _median(self.of(row, one.name, lambda result: 1e3 * (result["whole_processor_seconds"] - first) / max(1, result["items"] - 1)))

    def cosine(self, row, kind: str) -> float | None:
        for reference in REFERENCES:
            wanted, vectors = (self.results.get((name, kind)) for name in (reference, row.name))
            if wanted and vectors:
                return _cosine(vectors[0]["vector"], wanted[0]["vector"])
        return None


def table(found: Found) -> str:
    machine, sets, rows = found.machine, found.sets, found.rows
    kinds = tuple(dict.fromkeys(one.kind for one in sets))
    parts = [
        f"{found.date:%Y-%m-%d}, {machine['cores']} cores of {machine['processor']}; {clipstream.version(found.bench.binary)}, {prepared.MODEL};"
        f" medians of {found.runs} runs (lowest-highest); * = others took more than a twelfth of the machine in a run."
    ]
    if sets and rows:
        counts = {one.name: found.bench.count(one) for one in sets}
        head = ["items per second, URLs to vectors", *(f"{one.title} ({counts[one.name]})" for one in sets)]
        parts.append(_markdown(head, [[row.title, *(_rate(found, row, one) for one in sets)] for row in rows]))
        head = ["ms of processor per item, without start-up", *(one.name for one in sets)]
        parts.append(_markdown(head, [[row.title, *(_number(found.processor_ms(row, one), "{:.0f}") for one in sets)] for row in rows]))
        head = ["peak memory, MB", *(one.name for one in sets)]
        peaks = [[row.title, *(_number(found.median(row, one.name, "peak_mb"), "{:,.0f}") for one in sets)] for row in rows]
        parts.append(_markdown(head, peaks))
        head = ["start", *(f"s to one {kind}" for kind in kinds), *(f"cosine of that {kind}" for kind in kinds)]
        parts.append(_markdown(head, [_start(found, row, kinds) for row in rows if row.peer != "onnxruntime"]))
    if found.preprocess:
        parts.append(_preprocess(found.preprocess))
    parts += [f"failed: {row}, {name}: {error}" for (row, name), error in found.failed.items()]
    versions = {row.peer: _versions(found, row) for row in rows if _versions(found, row)}
    parts.append("\n".join(f"{peer}: {', '.join(f'{name} {version}' for name, version in of.items())}" for peer, of in versions.items()))
    return "\n\n".join(part for part in parts if part)


def as_json(found: Found) -> dict:
    def row_of(row) -> dict:
        measured = {}
        for one in found.sets:
            rates = found.rates(row, one)
            if rates:
                median = {"items_per_s": statistics.median(rates), "min": min(rates), "max": max(rates)}
                more = {"processor_ms": found.processor_ms(row, one), "peak_mb": found.median(row, one.name, "peak_mb")}
                measured[one.name] = median | more | {"runs": found.of(row, one.name, _without_vector)}
        starts = {kind: found.of(row, kind, _without_vector) for kind in ("picture", "text") if found.of(row, kind, _without_vector)}
        cosines = {kind: found.cosine(row, kind) for kind in starts}
        errors = {name: error for (failed, name), error in found.failed.items() if failed == row.name}
        which = {"name": row.name, "peer": row.peer, "title": row.title, "options": row.options}
        return which | {"sets": measured, "start": starts, "cosine": cosines, "failed": errors}

    return {
        "date": found.date.isoformat(timespec="seconds"),
        "machine": found.machine,
        "clipstream": clipstream.version(found.bench.binary),
        "model": f"{prepared.MODEL}, random weights, seed {prepared.SEED}",
        "runs": found.runs,
        "sets": {one.name: {"title": one.title, "items": found.bench.count(one)} for one in found.sets},
        "versions": {row.peer: _versions(found, row) for row in found.rows},
        "rows": [row_of(row) for row in found.rows],
        "preprocess": found.preprocess,
    }


def _without_vector(result: dict) -> dict:
    return {key: value for key, value in result.items() if key not in ("vector", "versions")}


def _versions(found: Found, row) -> dict:
    results = (result for (name, _), of_row in found.results.items() if name == row.name for result in of_row)
    return next((result["versions"] for result in results if "versions" in result), {})


def _rate(found: Found, row, one) -> str:
    if (row.name, one.name) in found.failed:
        return "failed"
    rates = found.rates(row, one)
    if not rates:
        return "–"
    star = "*" if any(found.of(row, one.name, lambda result: result["disturbed"])) else ""
    middle, ends = statistics.median(rates), f" ({min(rates):.1f}-{max(rates):.1f})" if len(rates) > 1 else ""
    notes = next((f", {note}" for note in found.of(row, one.name, lambda result: result.get("notes")) if note), "")
    return f"{middle:.1f}{star}{ends}{notes}"


def _start(found: Found, row, kinds: tuple) -> list:
    seconds = [_number(found.median(row, kind, "seconds"), "{:.1f}") for kind in kinds]
    return [row.title, *seconds, *(_number(found.cosine(row, kind), "{:.4f}") for kind in kinds)]


def _preprocess(report: dict) -> str:
    def line(one: dict) -> list:
        peer = one["peer"]
        ratios = [f"{peer['total_ms']:.1f}", f"{peer['exact_ratio']:.1f}", f"{peer['fast_ratio']:.1f}"] if peer else ["–"] * 3
        return [one["what"], f"{one['exact']['total_ms']:.1f}", f"{one['fast']['total_ms']:.1f}", *ratios]

    head = ["preprocessing on one core, ms", "exact", "fast", "Pillow + torchvision", "times exact", "times fast"]
    return _markdown(head, [line(one) for one in report["sets"]])


def _markdown(head: list, lines: list) -> str:
    """A table, without the lines that have nothing to say."""
    lines = [line for line in lines if set(line[1:]) != {"–"}]
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def _number(value, form: str) -> str:
    return "–" if value is None else form.format(value)


def _median(values: list):
    return statistics.median(values) if values else None


def _cosine(a: list, b: list) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
