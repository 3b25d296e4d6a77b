"""Emoji of six designs as one array of pictures per design: python prepare.py

Run in a folder that holds the unpacked npm packages emojibase-data@17.0.0, emoji-datasource-google@16.0.0,
emoji-datasource-twitter@16.0.0, fluentui-emoji@1.3.0, @lobehub/fluent-emoji-3d@1.1.0 (as lobehub-fluent-emoji-3d-1.1.0) and
openmoji@17.0.0, each under NAME-VERSION/. Needs numpy, pillow, cairosvg.

Writes pictures.npz: for each design, DESIGN_pictures [n, 96, 96, 4] u8 RGBA and DESIGN_concepts [n], indices into the list of
concepts.load_concepts().
"""

import io
import os

import cairosvg
import numpy as np
from PIL import Image

from concepts import load_concepts, normalised_hexcode, slug
from model import IMAGE_SIZE

CONCEPTS = load_concepts()
INDEX_BY_KEY = {concept["key"]: index for index, concept in enumerate(CONCEPTS)}
INDEX_BY_SLUG = {slug(concept["label"]): index for index, concept in enumerate(CONCEPTS)}


def read_raster(path):
    return Image.open(path).convert("RGBA")


def read_svg(path):
    return read_raster(io.BytesIO(cairosvg.svg2png(url=path, output_width=IMAGE_SIZE, output_height=IMAGE_SIZE)))


def concept_by_hexcode(file_name):
    return INDEX_BY_KEY.get(normalised_hexcode(file_name.rsplit(".", 1)[0]))


def concept_by_slug(file_name):
    return INDEX_BY_SLUG.get(file_name.rsplit(".", 1)[0])


def fit(picture):
    """Centred on a transparent square, then scaled to the model's size."""
    side = max(picture.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return np.asarray(square.resize((IMAGE_SIZE, IMAGE_SIZE), Image.BICUBIC))


# Design: (folder, concept of a file name, reader). Training uses the first four; the last two are held out.
DESIGNS = {
    "noto": ("emoji-datasource-google-16.0.0/img/google/64", concept_by_hexcode, read_raster),
    "twemoji": ("emoji-datasource-twitter-16.0.0/img/twitter/64", concept_by_hexcode, read_raster),
    "flat": ("fluentui-emoji-1.3.0/icons/flat", concept_by_slug, read_svg),
    "modern": ("fluentui-emoji-1.3.0/icons/modern", concept_by_slug, read_svg),
    "fluent3d": ("lobehub-fluent-emoji-3d-1.1.0/assets", concept_by_hexcode, read_raster),
    "openmoji": ("openmoji-17.0.0/color/svg", concept_by_hexcode, read_svg),
}


def main():
    arrays = {}
    for design, (folder, concept_of, read) in DESIGNS.items():
        pictures, concepts = [], []
        for name in sorted(os.listdir(folder)):
            concept = concept_of(name)
            if concept is not None:
                pictures.append(fit(read(os.path.join(folder, name))))
                concepts.append(concept)
        arrays[f"{design}_pictures"], arrays[f"{design}_concepts"] = np.stack(pictures), np.array(concepts)
        print(design, len(concepts), "pictures")
    np.savez("pictures.npz", **arrays)


if __name__ == "__main__":
    main()
