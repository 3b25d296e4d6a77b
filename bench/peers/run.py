#!/usr/bin/env python3
"""Measures clipstream beside what a user would take instead, on the same pictures, captions and model, in one go: make bench-peers.

    bench/peers/run.py [--peers worker,fastembed] [--sets 1200px,texts] [--runs 1] [--items 64] [--json FILE] [--clipstream BINARY] [--model DIR]

Runs take turns, each on a quiet machine. Prints a table of medians; --json writes everything. Ends with 1 where a row failed.
What is installed, made and downloaded is kept in the user's cache folder: several GB per peer with torch.
"""

import argparse
import datetime
import json
import os
import sys
from pathlib import Path

import machine
import measure
import prepared
import report
from rows import ENVIRONMENTS, ROWS, SETS, chosen

# This process stays small, since the peak memory of a child is never below that of its parent: pictures and models are made by others.


def arguments() -> argparse.Namespace:
    def names(text: str) -> list:
        return [name for name in text.split(",") if name]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or prepared.PROJECT / "target")
    parser.add_argument("--peers", type=names, default=[], help="peers, or rows of theirs (worker-int8); default: all")
    parser.add_argument("--sets", type=names, default=[], help="of 12mp,1200px,webp,texts,preprocess; default: all")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--items", type=int, help="items per run instead of each set's own number, for trying things out")
    parser.add_argument("--wait", type=float, default=120, help="seconds at most for a quiet machine before each run; 0: take it as it is")
    parser.add_argument("--json", type=Path, help="a report in this file")
    parser.add_argument("--clipstream", type=Path, default=target / "release" / "clipstream", help="the binary")
    parser.add_argument("--model", type=Path, help=f"{prepared.MODEL} with random weights, exported before")
    return parser.parse_args()


def bench(given: argparse.Namespace, rows: tuple) -> measure.Bench:
    if not given.clipstream.is_file():
        raise prepared.Failed(f"{given.clipstream} is not there; next: cargo build --release, or name the binary with --clipstream")
    # Everything is there before anything is measured: a peer that cannot be installed ends this here.
    pythons = {row.peer: prepared.environment(ENVIRONMENTS[row.peer]) for row in rows if row.peer in ENVIRONMENTS}
    model = given.model.resolve() if given.model else prepared.model()
    prepared.is_measured_model(model)
    needs_hugging_face = any(row.peer not in ("clipstream", "worker", "onnxruntime") for row in rows)
    hugging_face = prepared.hugging_face() if needs_hugging_face else None
    pictures = prepared.sets()
    server, port = measure.serve(pictures)
    return measure.Bench(given.clipstream.resolve(), model, hugging_face, pictures, pythons, server, port, given.items, given.wait)


def turns(bench: measure.Bench, rows: tuple, sets: tuple, runs: int, found: report.Found) -> None:
    """Every row once, then every row again: what changes on the machine meanwhile is the same to all."""
    kinds = tuple(dict.fromkeys(one.kind for one in sets))
    steps = [(bench.start, row, kind, kind) for kind in kinds for row in rows if row.takes_kind(kind) and row.peer != "onnxruntime"]
    steps += [(bench.run, row, one, one.name) for one in sets for row in rows if row.takes(one)]
    for turn in range(1, runs + 1):
        for what, row, of, name in steps:
            if (row.name, name) in found.failed:
                continue
            try:
                result = what(row, of)
            except prepared.Failed as error:
                # The rest is still measured; the table names it, and the exit status does.
                found.failed[(row.name, name)] = str(error)
                print(f"bench-peers: {row.name}, {name}: {error}", file=sys.stderr, flush=True)
                continue
            found.add(row, name, result)
            shown = f"{result['rate']:.1f}/s" if "rate" in result else f"{result['seconds']:.1f} s to one {name}"
            others = f", others took {result['others']:.0%}" if result["others"] > 0.02 else ""
            print(f"bench-peers: run {turn} of {runs}, {name}, {row.name}: {shown}{others}", file=sys.stderr, flush=True)


def main() -> None:
    given = arguments()
    try:
        with_preprocess = not given.sets or "preprocess" in given.sets
        only_preprocess = given.sets == ["preprocess"]
        sets = () if only_preprocess else chosen([name for name in given.sets if name != "preprocess"], SETS, "sets (and preprocess)")
        rows = () if only_preprocess else chosen(given.peers, ROWS, "peers and rows")
    except ValueError as error:
        sys.exit(f"bench-peers: {error}")
    try:
        measured = bench(given, rows)
        found = report.Found(datetime.datetime.now(datetime.timezone.utc), given.runs, machine.description(), measured, sets, rows)
        turns(measured, rows, sets, given.runs, found)
        if with_preprocess:
            found.preprocess = measured.preprocess(prepared.environment("export-env"))
    except prepared.Failed as error:
        sys.exit(f"bench-peers: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(report.table(found))
    if given.json:
        given.json.write_text(json.dumps(report.as_json(found), indent=2) + "\n")
    sys.exit(1 if found.failed else 0)


if __name__ == "__main__":
    main()
