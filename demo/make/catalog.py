"""The demo catalog, pictures of @lobehub/fluent-emoji-3d@1.1.0 with their names: python catalog.py OUT

Run in a folder that holds the unpacked npm packages emojibase-data-17.0.0/ and lobehub-fluent-emoji-3d-1.1.0/. Standard library only.
"""

import json
import shutil
import sys
from pathlib import Path

from concepts import load_concepts, normalised_hexcode

SOURCE = Path("lobehub-fluent-emoji-3d-1.1.0/assets")


def main(out):
    (out / "images").mkdir(parents=True, exist_ok=True)
    concepts = {concept["key"]: concept for concept in load_concepts()}
    taken = set()
    with (out / "catalog.jsonl").open("w", encoding="utf-8") as catalog:
        for picture in sorted(SOURCE.iterdir(), key=lambda path: path.name):
            key = normalised_hexcode(picture.stem)
            if key not in concepts or key in taken:
                continue
            taken.add(key)
            concept = concepts[key]
            shutil.copyfile(picture, out / "images" / f"{key}.webp")
            payload = {name: concept[name] for name in ("emoji", "group", "subgroup", "tags")}
            record = {"id": key, "image": f"images/{key}.webp", "text": concept["label"], "payload": payload}
            catalog.write(json.dumps(record, ensure_ascii=False) + "\n")
    print(len(taken), "pictures")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
