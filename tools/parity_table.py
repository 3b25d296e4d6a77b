"""The table of tools/parity.py, for a terminal or for docs/exactness.md."""

import math

HEAD = (
    "model", "layers", "activation", "tokenizer", "pictures, texts", "smallest cosine, pictures", "texts", "largest error, pictures", "texts",
    "median between pictures", "between texts",
)  # fmt: skip


def table(rows: list[dict], markdown: bool = False) -> str:
    lines = [HEAD, *(cells(row) for row in rows)]
    if markdown:
        rule = "|" + "---|" * len(HEAD)
        written = ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([written[0], rule, *written[1:]])
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def cells(row: dict) -> tuple:
    if "error" in row:
        return (row["model"], "", "", "", "", f"FAILED: {row['error']}"[:160].replace("\n", " "), "", "", "", "", "")
    activations = dict.fromkeys(row[f"{tower}_activation"] or "other" for tower in ("image", "text"))
    return (
        row["model"] + ("" if row["ok"] else " FAILED"),
        "all" if row["layers"] is None else str(row["layers"]),
        ", ".join(activations),
        row["tokenizer"] or "CLIP's",
        f"{row['inputs_image']}, {row['inputs_text']}",
        shown(row["cosine_min_image"]),
        shown(row["cosine_min_text"]),
        f"{row['error_max_image']:.0e}",
        f"{row['error_max_text']:.0e}",
        f"{row['median_between_image']:.2f}",
        f"{row['median_between_text']:.2f}",
    )


def shown(cosine: float) -> str:
    """Never rounded up, so that 1 is 1."""
    return f"{math.floor(cosine * 10**8) / 10**8:.8f}"
