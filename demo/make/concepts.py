"""What the emoji are called: one concept per emoji of emojibase-data, found by hexcode or by name.

Reads emojibase-data-17.0.0/en/, the unpacked npm package, in the current folder.
"""

import json
import re
from pathlib import Path

EMOJIBASE = Path("emojibase-data-17.0.0/en")
GROUP_OF_COMPONENTS = 2  # skin tones and hair: parts of emoji, not pictures of something


def normalised_hexcode(hexcode):
    """Lower case, without the variation selector that some designs write and others leave out."""
    return hexcode.lower().replace("-fe0f", "")


def slug(label):
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def load_concepts():
    """The concepts, sorted by key: key (normalised hexcode), label, tags, group, subgroup, emoji."""
    emoji = json.loads((EMOJIBASE / "data.json").read_text(encoding="utf-8"))
    messages = json.loads((EMOJIBASE / "messages.json").read_text(encoding="utf-8"))
    group_names = {group["order"]: group["message"] for group in messages["groups"]}
    subgroup_names = {group["order"]: group["message"] for group in messages["subgroups"]}
    by_key = {}
    for entry in emoji:
        if "group" in entry and entry["group"] != GROUP_OF_COMPONENTS:
            key = normalised_hexcode(entry["hexcode"])
            by_key[key] = {
                "key": key,
                "label": entry["label"],
                "tags": entry.get("tags", []),
                "group": group_names.get(entry["group"], ""),
                "subgroup": subgroup_names.get(entry.get("subgroup"), ""),
                "emoji": entry["emoji"],
            }
    return [by_key[key] for key in sorted(by_key)]
