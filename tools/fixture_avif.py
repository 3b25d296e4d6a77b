"""Small AVIF pictures of every kind, whole and damaged, and what Pillow makes of them.

    python3 tools/fixture_avif.py                writes tests/fixtures/avif.jsonl.zlib, and some of them to tests/fixtures/pictures
    python3 tools/fixture_avif.py --files DIR    writes each to a file of its own
    python3 tools/fixture_avif.py --mutate N DIR writes N damaged ones to DIR (`fixture_variants.py --judge` tells what Pillow makes of them)

Needs tools/requirements-fixtures.txt: Pillow's plugin encodes 8 bits, imagecodecs 10 and 12; containers are put together here.
The format of the file is that of `fixture_variants.py`, and so is the test, `hostile::variants`.
"""

import io
import json
import random
import struct
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy
from PIL import Image, ImageCms

from fixture_variants import judged, mutated

ROOT = Path(__file__).parent.parent
# Also read by tests of the decoder itself, and seeds of the fuzz target.
KEPT = {
    "avif 4:2:0 full 33x21": "avif_420.avif",
    "avif 4:4:4 limited 33x21": "avif_444.avif",
    "avif 4:2:0 full alpha 33x21": "avif_alpha.avif",
    "avif grey full 33x21": "avif_grey.avif",
    "avif deep 10 4:2:2 RGB": "avif_10_bits.avif",
    "avif deep 12 4:2:0 RGBA": "avif_12_bits_alpha.avif",
    "avif grid 2x2": "avif_grid.avif",
    "avif sequence of RGBA": "avif_sequence.avif",
    "avif irot 1 imir 0": "avif_turned.avif",
}


def samples(width, height, channels, seed=0, depth=8):
    """Smooth parts, hard edges and noise."""
    rng = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[0:height, 0:width].astype(float)
    out = numpy.zeros((height, width, channels))
    for channel in range(channels):
        across, down = rng.uniform(0.05, 0.6, 2)
        out[..., channel] = 127 + 60 * numpy.sin(x * across) + 50 * numpy.cos(y * down + channel) + rng.normal(0, 6, (height, width))
        out[height // 3:height // 2, width // 4:width // 2, channel] = rng.integers(0, 256)
    most = (1 << depth) - 1
    return (numpy.clip(out, 0, 255) / 255 * most).astype(numpy.uint8 if depth == 8 else numpy.uint16)


def encoded(width=33, height=21, channels=3, seed=0, **keys):
    buffer = io.BytesIO()
    data = samples(width, height, channels, seed)
    Image.fromarray(data[..., 0] if channels == 1 else data).save(buffer, "AVIF", **{"quality": 75, "speed": 8, "max_threads": 1, **keys})
    return buffer.getvalue()


def deep(depth, layout, channels=3, width=33, height=21, **keys):
    data = samples(width, height, channels, depth, depth)
    layout = layout.replace(":", "")
    return imagecodecs.avif_encode(data, level=80, speed=8, bitspersample=depth, pixelformat=layout, numthreads=1, **keys)


# Containers

def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind, version, flags, *parts):
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def children(data):
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        yield kind, data[at + 8:at + length], data[at:at + length]
        at += length


def coded(file):
    """The data of the first two items of a file by libavif, and their AV1 configurations."""
    top = {kind: body for kind, body, _ in children(file)}
    meta = {kind: body for kind, body, _ in children(top[b"meta"][4:])}
    iloc = meta[b"iloc"]
    count = struct.unpack(">H", iloc[6:8])[0]
    places = [struct.unpack(">HHHII", iloc[8 + 14 * n:22 + 14 * n]) for n in range(count)]
    iprp = {kind: body for kind, body, _ in children(meta[b"iprp"])}
    properties = [(kind, whole) for kind, _, whole in children(iprp[b"ipco"])]
    configs = [whole for kind, whole in properties if kind == b"av1C"]
    return [file[place[3]:place[3] + place[4]] for place in places[:2]], configs


def ispe(width, height):
    return full(b"ispe", 0, 0, struct.pack(">II", width, height))


def nclx(primaries, matrix, full_range, transfer=13):
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, matrix, full_range << 7))


def pixi(depth=8, channels=3):
    return full(b"pixi", 0, 0, bytes([channels] + [depth] * channels))


ALPHA = full(b"auxC", 0, 0, b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")


def item(data, *properties, kind=b"av01", essential=(), idat=False, **more):
    return {"data": data, "properties": properties, "kind": kind, "essential": essential, "idat": idat, **more}


def must(kind):
    return kind in (b"av1C", b"irot", b"imir", b"clap", b"lsel", b"a1op")


def contained(items, references=(), primary=1, brands=b"avifmif1miaf", major=b"avif", wide=False, split=1, zero=False, rest=b"",
              handler=b"pict"):
    """A file of these items, numbered from 1. References: kind, from, to."""
    properties, associations, infos = [], [], []
    for number, part in enumerate(items, 1):
        found = []
        for whole in part["properties"]:
            if whole not in properties:
                properties.append(whole)
            kind = whole[4:8]
            essential = kind in part["essential"] if part["essential"] else must(kind)
            place = properties.index(whole) + 1
            found.append(struct.pack(">H", essential << 15 | place) if wide else bytes([essential << 7 | place]))
        associations.append(struct.pack(">IB" if wide else ">HB", number, len(found)) + b"".join(found))
        infos.append(full(b"infe", 3 if wide else 2, 0, struct.pack(">IH" if wide else ">HH", number, 0), part["kind"], b"\0"))
    idat = b"".join(part["data"] for part in items if part["idat"])
    ftyp = box(b"ftyp", major, b"\0\0\0\0", brands)

    def meta(start):
        places, at_idat, at = [], 0, start
        for number, part in enumerate(items, 1):
            data = part["data"]
            extents, offset = [], part.get("at", at_idat if part["idat"] else at)
            for n in range(split):
                piece = len(data) * (n + 1) // split - len(data) * n // split
                extents.append(struct.pack(">QQ" if wide else ">II", offset, part.get("length", piece)))
                offset += piece
            if part["idat"]:
                at_idat += len(data)
            else:
                at += len(data)
            method = b"" if not wide and not idat else struct.pack(">H", int(part["idat"]))
            places.append(struct.pack(">I" if wide else ">H", number) + method + struct.pack(">HH", 0, split) + b"".join(extents))
        version = 2 if wide else 1 if idat else 0
        size = b"\x88\x00" if wide else b"\x44\x00"
        iloc = full(b"iloc", version, 0, size, struct.pack(">I" if wide else ">H", len(items)), *places)
        count = struct.pack(">I" if wide else ">H", len(items))
        parts = [
            full(b"hdlr", 0, 0, b"\0\0\0\0", handler, bytes(12), b"\0"),
            full(b"pitm", int(wide), 0, struct.pack(">I" if wide else ">H", primary)),
            iloc,
            full(b"iinf", int(wide), 0, count, *infos),
            *([full(b"iref", 0, 0, *[box(kind, struct.pack(f">HH{len(to)}H", source, len(to), *to)) for kind, source, to in references])]
              if references else []),
            box(b"iprp", box(b"ipco", *properties), full(b"ipma", int(wide), int(wide), struct.pack(">I", len(associations)), *associations)),
            *([box(b"idat", idat)] if idat else []),
        ]
        return full(b"meta", 0, 0, *parts)

    start = len(ftyp) + len(meta(0)) + 8
    mdat = box(b"mdat", *[part["data"] for part in items if not part["idat"]])
    if zero:
        mdat = b"\0\0\0\0" + mdat[4:]
    return ftyp + meta(start) + mdat + rest


def one(*properties, file=None, size=(33, 21), **keys):
    """The picture of `file` with these properties and those that it must have."""
    (data, *_), (config, *_) = coded(file or encoded())
    return contained([item(data, ispe(*size), config, *properties)], **keys)


def grids():
    tiles = [coded(encoded(64, 64, 4, seed)) for seed in range(4)]
    full_tiles = [coded(encoded(64, 64, 3, seed, subsampling="4:4:4")) for seed in range(4)]

    def grid(width, height, rows=2, columns=2, tiles=tiles, kind="color", output=None, idat=True, wide=False, count=None, **keys):
        config = tiles[0][1][0]
        head = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *(output or (width, height)))
        items = [item(head, ispe(width, height), config, pixi(), nclx(1, 6, 1), kind=b"grid", idat=idat)]
        n = rows * columns if count is None else count
        items += [item(tile[0][0], ispe(64, 64), tile[1][0]) for tile in (tiles * 3)[:n]]
        references = [(b"dimg", 1, list(range(2, 2 + n)))]
        if kind == "alpha":
            items.append(item(head, ispe(width, height), ALPHA, kind=b"grid", idat=idat))
            alpha = len(items)
            items += [item(tile[0][1], ispe(64, 64), tile[1][1]) for tile in tiles[:n]]
            references += [(b"dimg", alpha, list(range(alpha + 1, alpha + 1 + n))), (b"auxl", alpha, [1])]
        if kind == "alpha of tiles":
            first = len(items) + 1
            items += [item(tile[0][1], ispe(64, 64), tile[1][1], ALPHA) for tile in tiles[:n]]
            references += [(b"auxl", first + k, [2 + k]) for k in range(n)]
        if kind == "alpha of some":
            items.append(item(tiles[0][0][1], ispe(64, 64), tiles[0][1][1], ALPHA))
            references.append((b"auxl", len(items), [2]))
        return contained(items, references, wide=wide, **keys)

    yield "avif grid 2x2", grid(128, 128)
    yield "avif grid 2x2 cut", grid(100, 90)
    yield "avif grid 2x2 cut, odd", grid(101, 91)
    yield "avif grid 2x2 4:4:4 cut, odd", grid(101, 91, tiles=full_tiles)
    yield "avif grid 3x1", grid(64, 190, 3, 1)
    yield "avif grid 1x2", grid(120, 64, 1, 2)
    yield "avif grid with alpha", grid(128, 100, kind="alpha")
    yield "avif grid with alpha of tiles", grid(128, 100, kind="alpha of tiles")
    yield "avif grid with alpha of some tiles", grid(128, 100, kind="alpha of some")
    yield "avif grid, its head in mdat", grid(128, 128, idat=False)
    yield "avif grid of another size", grid(128, 128, output=(100, 100))
    yield "avif grid too small", grid(40, 40)
    yield "avif grid too large", grid(140, 128)
    yield "avif grid, a tile missing", grid(128, 128, count=3)
    yield "avif grid, a tile too many", grid(128, 128, count=5)
    yield "avif grid of other tiles", grid(128, 128, tiles=[tiles[0], tiles[1], full_tiles[0], tiles[3]])
    small = [coded(encoded(32, 32, 3, seed, subsampling="4:4:4")) for seed in range(4)]
    # Larger in all than the file, many times: we refuse it.
    (data, *_), (config, *_) = coded(encoded(64, 64, 3, 1, quality=100, subsampling="4:4:4"))

    def layered(at):
        head = struct.pack(">BBBBHH", 0, 0, 15, 15, 1024, 1024)
        tiles = [item(data if n == 0 else b"", ispe(64, 64), config, at=at, length=len(data)) for n in range(256)]
        return contained([item(head, ispe(1024, 1024), config, kind=b"grid", idat=True), *tiles], [(b"dimg", 1, list(range(2, 258)))])

    yield "avif same data in all tiles", layered(len(layered(0)) - len(data))
    yield "avif grid of small tiles", grid(64, 64, tiles=small)


def plain():
    for width, height in [(33, 21), (1, 1), (2, 2), (16, 17)]:
        for layout in ("4:4:4", "4:2:2", "4:2:0", "4:0:0"):
            for colors in ("full", "limited"):
                name = "grey" if layout == "4:0:0" else layout
                yield f"avif {name} {colors} {width}x{height}", encoded(width, height, subsampling=layout, range=colors)
                if width == 33:
                    yield (f"avif {name} {colors} alpha {width}x{height}",
                           encoded(width, height, 4, subsampling=layout, range=colors))
                    yield (f"avif {name} {colors} premultiplied {width}x{height}",
                           encoded(width, height, 4, subsampling=layout, range=colors, alpha_premultiplied=True))
    yield "avif grey of grey", encoded(channels=1)
    yield "avif grey of grey, lossless", encoded(channels=1, quality=100)
    yield "avif worst", encoded(quality=0)
    yield "avif best", encoded(quality=100)
    for depth in (10, 12):
        for layout in ("4:4:4", "4:2:2", "4:2:0", "4:0:0"):
            for channels in (3, 4):
                yield f"avif deep {depth} {layout} {'RGBA' if channels == 4 else 'RGB'}", deep(depth, layout, channels)
    for channels, mode in ((3, "RGB"), (4, "RGBA")):
        frames = [Image.fromarray(samples(24, 18, channels, seed)) for seed in range(3)]
        buffer = io.BytesIO()
        frames[0].save(buffer, "AVIF", save_all=True, append_images=frames[1:], duration=100, speed=8, max_threads=1)
        yield f"avif sequence of {mode}", buffer.getvalue()
    exif = Image.Exif()
    for number in (1, 3, 6, 8):
        exif[0x0112] = number
        yield f"avif exif {number}", encoded(exif=exif)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield "avif with a profile", encoded(icc_profile=profile)


def colors():
    files = {
        "4:4:4": encoded(subsampling="4:4:4"), "4:2:0": encoded(), "4:2:2": encoded(subsampling="4:2:2"),
        "grey": encoded(channels=1), "10 4:4:4": deep(10, "4:4:4"), "10 4:2:0": deep(10, "4:2:0"), "12 4:2:2": deep(12, "4:2:2"),
    }
    for name, file in files.items():
        for matrix in (*range(0, 18), 255):
            for full_range in (0, 1):
                if name not in ("4:4:4", "4:2:0", "10 4:4:4") and matrix in (2, 3, 5, 7, 10, 11, 13, 14, 15, 17):
                    continue
                yield f"avif matrix {matrix} range {full_range} {name}", one(nclx(1, matrix, full_range), file=file)
    for primaries in (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22, 99):
        yield f"avif matrix 12 primaries {primaries}", one(nclx(primaries, 12, 1), file=files["4:4:4"])
    yield "avif colours not said", one()
    yield "avif colours said twice", one(nclx(1, 6, 1), nclx(1, 1, 0))
    yield "avif colours of an unknown kind", one(box(b"colr", b"nclc", b"\0\1\0\1\0\1"))
    yield "avif profile and colours", one(box(b"colr", b"prof", b"not a profile"), nclx(9, 9, 0))
    for channels, mode in ((4, "RGBA"), ):
        for layout in ("4:4:4", "4:2:0", "4:2:2"):
            datas, configs = coded(encoded(channels=channels, subsampling=layout))
            for matrix in (0, 1, 6, 7, 8):
                for premultiplied in (False, True):
                    references = [(b"auxl", 2, [1])] + ([(b"prem", 1, [2])] if premultiplied else [])
                    items = [item(datas[0], ispe(33, 21), configs[0], nclx(1, matrix, 1)), item(datas[1], ispe(33, 21), configs[1], ALPHA)]
                    yield f"avif {mode} {layout} matrix {matrix} premultiplied {premultiplied}", contained(items, references)


def transforms():
    for angle in (None, 0, 1, 2, 3):
        for axis in (None, 0, 1):
            found = ([box(b"irot", bytes([angle]))] if angle is not None else []) + ([box(b"imir", bytes([axis]))] if axis is not None else [])
            name = f"avif irot {angle} imir {axis}"
            yield name, one(nclx(1, 6, 1), *found)
    yield "avif clap", one(nclx(1, 6, 1), box(b"clap", struct.pack(">8I", 11, 1, 7, 1, 0, 1, 0, 1)))
    yield "avif clap without sense", one(nclx(1, 6, 1), box(b"clap", struct.pack(">8I", 99, 0, 7, 1, 0, 1, 0, 1)))
    yield "avif pasp", one(box(b"pasp", struct.pack(">II", 2, 1)))
    (data, *_), (config, *_) = coded(encoded())
    yield "avif irot not essential", contained([item(data, ispe(33, 21), config, box(b"irot", b"\1"), essential=(b"av1C",))])
    yield "avif irot of five", one(box(b"irot", b"\5"))


def containers():
    (data, *_), (config, *_) = coded(encoded())
    whole = one(nclx(1, 6, 1), pixi())
    yield "avif container plain", whole
    yield "avif container wide", one(nclx(1, 6, 1), wide=True)
    yield "avif container in pieces", one(nclx(1, 6, 1), split=3)
    yield "avif container mdat to the end", one(nclx(1, 6, 1), zero=True)
    yield "avif container with more behind", one(nclx(1, 6, 1), rest=b"more")
    yield "avif container in idat", contained([item(data, ispe(33, 21), config, nclx(1, 6, 1), idat=True)])
    for major in (b"mif1", b"msf1", b"avis", b"heic", b"MA1B"):
        yield f"avif container of brand {major.decode()}", one(nclx(1, 6, 1), major=major)
    yield "avif container without brand", one(nclx(1, 6, 1), major=b"mif1", brands=b"mif1miaf")
    yield "avif container with tmap", one(nclx(1, 6, 1), brands=b"avifmif1tmap")
    yield "avif container of another handler", one(handler=b"vide")
    yield "avif container without primary", one(primary=7)
    yield "avif container without config", contained([item(data, ispe(33, 21))])
    yield "avif container without size", contained([item(data, config)])
    yield "avif container of no size", one(size=(0, 21))
    yield "avif container of wrong depth", one(pixi(10))
    yield "avif container of mixed depth", one(full(b"pixi", 0, 0, b"\3\x08\x08\x0a"))
    yield "avif container with an unknown property", one(box(b"abcd", b"1234"))
    yield "avif container with an unknown essential property", contained(
        [item(data, ispe(33, 21), config, box(b"abcd", b"1234"), essential=(b"av1C", b"abcd"))])
    yield "avif container with a thumbnail", contained(
        [item(data, ispe(33, 21), config), item(coded(encoded(8, 8))[0][0], ispe(8, 8), config)], [(b"thmb", 2, [1])])
    yield "avif container with a smaller size", one(size=(30, 20))
    yield "avif container with a larger size", one(size=(66, 42))
    yield "avif container with a1op", one(box(b"a1op", b"\0"))
    yield "avif container with lsel", one(box(b"lsel", b"\0\0"))
    yield "avif container with lsel of all", one(box(b"lsel", b"\xff\xff"))
    yield "avif container with lsel of none", one(box(b"lsel", b"\0\2"))
    yield "avif container with a1lx", one(box(b"a1lx", b"\0" + struct.pack(">HHH", len(data) // 2, 0, 0)))
    yield "avif container with a1lx too long", one(box(b"a1lx", b"\0" + struct.pack(">HHH", 60000, 0, 0)))
    yield "avif container whose item lies outside", contained([item(data, ispe(33, 21), config, at=10**6)])
    yield "avif container whose item is empty", contained([item(data, ispe(33, 21), config, length=0)])
    yield "avif container whose item is cut", contained([item(data, ispe(33, 21), config, length=len(data) // 2)])
    (colors_, alpha), configs = coded(encoded(channels=4))
    alike = [item(colors_, ispe(33, 21), configs[0]), item(alpha, ispe(33, 21), configs[1], ALPHA)]
    yield "avif alpha", contained(alike, [(b"auxl", 2, [1])])
    yield "avif alpha for nothing", contained(alike, [])
    yield "avif alpha of another kind", contained(
        [alike[0], item(alpha, ispe(33, 21), configs[1], full(b"auxC", 0, 0, b"urn:mpeg:hevc:2015:auxid:2\0"))], [(b"auxl", 2, [1])])
    yield "avif alpha of the old name", contained(
        [alike[0], item(alpha, ispe(33, 21), configs[1], full(b"auxC", 0, 0, b"urn:mpeg:hevc:2015:auxid:1\0"))], [(b"auxl", 2, [1])])
    other = coded(encoded(16, 16, 4))
    yield "avif alpha of another size", contained(
        [alike[0], item(other[0][1], ispe(16, 16), other[1][1], ALPHA)], [(b"auxl", 2, [1])])
    (limited, *_), (limited_config, *_) = coded(encoded(channels=1, range="limited"))
    yield "avif alpha of limited range", contained(
        [alike[0], item(limited, ispe(33, 21), limited_config, ALPHA)], [(b"auxl", 2, [1])])
    yield "avif alpha turned", contained(
        [alike[0], item(alpha, ispe(33, 21), configs[1], ALPHA, box(b"irot", b"\1"))], [(b"auxl", 2, [1])])
    for part in (8, 20, 40, 200, len(whole) - 300, len(whole) - 100, len(whole) - 20, len(whole) - 1):
        yield f"avif cut at {part}", whole[:part]


def whole_ones():
    for kind in (plain, colors, transforms, grids, containers):
        yield from kind()


def damaged(count):
    known = [(name, data) for name, data in whole_ones() if not name.startswith("avif matrix")]
    for n in range(count):
        name, data = known[n * 7 % len(known)]
        yield f"avif damaged {n} {name[5:]}", mutated(random.Random(n), data)


def main():
    if sys.argv[1:2] in (["--files"], ["--mutate"]):
        folder = Path(sys.argv[-1])
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in whole_ones() if sys.argv[1] == "--files" else damaged(int(sys.argv[2])):
            (folder / (name.replace(" ", "_").replace(":", "").replace(",", "") + ".avif")).write_bytes(data)
        return
    known = {**dict(whole_ones()), **dict(damaged(150))}
    for name, file in KEPT.items():
        (ROOT / "tests/fixtures/pictures" / file).write_bytes(known[name])
    entries = [{"name": name, "bytes": data.hex(), **judged(data)} for name, data in known.items()]
    lines = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries)
    out = ROOT / "tests/fixtures/avif.jsonl.zlib"
    out.write_bytes(struct.pack("<I", len(lines)) + zlib.compress(lines.encode(), 9))
    print(f"{len(known)} pictures, {sum('rgb' in entry for entry in entries)} of which Pillow opens; {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
