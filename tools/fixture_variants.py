"""Small pictures of every kind that files in the field have, whole and untidy, and what Pillow makes of them.

    python3 tools/fixture_variants.py                   writes tests/fixtures/variants.jsonl.zlib
    python3 tools/fixture_variants.py --mutate N DIR    writes N damaged variants to DIR, for a comparison of both decoders
    python3 tools/fixture_variants.py --judge           reads paths, writes what Pillow makes of each
    python3 tools/fixture_variants.py --judge-all       writes what Pillow makes of each variant

Needs tools/requirements-fixtures.txt. The file is its length (32 bits, little-endian) and zlib's stream of one line per
variant: its name, its bytes in hex, and either `rgb`, the SHA-256 of the
pixels after convert("RGB"), with `fitted`, that of OpenCLIP's transform to 16 pixels before ToTensor, or `refused`, Pillow's
words. `without_simd`: the same of damaged JPEGs, where libjpeg-turbo without SIMD makes something else of them. The test is
`hostile::variants`.
"""

import hashlib
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 19, 13
FITTED = 16


def noise(seed, count):
    rng = random.Random(seed)
    return bytes(rng.randrange(256) for _ in range(count))


def smooth(channels, width=WIDTH, height=HEIGHT, bits=8):
    """Samples that differ everywhere and still compress."""
    most = (1 << bits) - 1
    return [
        [(x * (3 + c) * 977 // 100 + y * (7 - c) * 11 + (x * y) % (5 + c) * 9) * (most // 255 or 1) % (most + 1)
         for x in range(width) for c in range(channels)]
        for y in range(height)
    ]


def packed(rows, bits, order=">"):
    """Rows of samples, most significant bit first, each from a byte on."""
    out = []
    for row in rows:
        if bits >= 8:
            code = {8: "B", 16: "H", 32: "I"}[bits]
            out.append(struct.pack(f"{order}{len(row)}{code}", *row))
            continue
        text = "".join(format(value % (1 << bits), f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        out.append(bytes(int(text[n:n + 8], 2) for n in range(0, len(text), 8)))
    return out


def picture(mode="RGB", width=WIDTH, height=HEIGHT):
    channels = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (width, height), b"".join(packed(smooth(channels, width, height), 8)))


# PNG

def chunk(kind, body=b"", crc=None, length=None):
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body) if length is None else length) + kind + body + struct.pack(">I", crc)


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png_data(color, bits, interlaced=False, filters=True):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    rows = smooth(channels, bits=bits)
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    out, step = b"", max(1, channels * bits // 8)
    for x0, y0, dx, dy in passes:
        part = [[v for x in range(x0, WIDTH, dx) for v in row[x * channels:(x + 1) * channels]] for row in rows[y0::dy]]
        if not part or not part[0]:
            continue
        before = None
        for n, row in enumerate(packed(part, bits)):
            before = before or bytes(len(row))
            kind = n % 5 if filters else 0
            left = lambda i: row[i - step] if i >= step else 0
            corner = lambda i: before[i - step] if i >= step else 0
            def paeth(a, b, c):
                p = a + b - c
                return min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            guess = [
                lambda i: 0, left, lambda i: before[i], lambda i: (left(i) + before[i]) // 2,
                lambda i: paeth(left(i), before[i], corner(i)),
            ][kind]
            out += bytes([kind]) + bytes((row[i] - guess(i)) % 256 for i in range(len(row)))
            before = row
    return out


def png(color=2, bits=8, before=b"", after=None, data=None, interlace=0, split=0, ihdr=None, plte=None, end=None, idat_crc=None):
    packed_data = zlib.compress(png_data(color, bits, bool(interlace)), 9) if data is None else data
    ihdr = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, color, 0, 0, interlace) if ihdr is None else ihdr
    if plte is None and color == 3:
        plte = chunk(b"PLTE", noise(1, 3 * (1 << bits)))
    parts = [packed_data[n:n + split] for n in range(0, len(packed_data), split)] if split else [packed_data]
    idat = b"".join(chunk(b"IDAT", part, idat_crc) for part in parts)
    end = chunk(b"IEND") if end is None else end
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + (plte or b"") + before + idat + (after or b"") + end


def pngs():
    for color, depths in [(0, (1, 2, 4, 8, 16)), (2, (8, 16)), (3, (1, 2, 4, 8)), (4, (8, 16)), (6, (8, 16))]:
        for bits in depths:
            for interlace in (0, 1):
                yield f"png color {color} bits {bits} interlace {interlace}", png(color, bits, interlace=interlace)
    plain = png()
    yield "png idat crc zero", png(idat_crc=0)
    yield "png idat crc wrong, split", png(idat_crc=12345, split=100)
    yield "png idat split, some empty", png(split=37, before=chunk(b"IDAT"))
    for name, cut in [("iend", 12), ("iend and crc", 14), ("iend and last crc", 16), ("checksum", 18), ("checksum whole", 20),
                      ("pixel", 26), ("half", len(plain) // 2)]:
        yield f"png cut {name}", plain[:-cut]
    for n in range(1, 4):
        yield f"png cut within iend {n}", plain[:-n]
    raw = png_data(2, 8)
    packed_data = zlib.compress(raw, 9)
    yield "png zlib checksum wrong", png(data=packed_data[:-1] + bytes([packed_data[-1] ^ 1]))
    yield "png zlib checksum wrong, in a chunk of its own", png(data=packed_data[:-4] + b"abcd", split=len(packed_data) - 4)
    yield "png zlib checksum missing", png(data=packed_data[:-4])
    yield "png zlib window too small", png(data=b"\x18\x19" + packed_data[2:])
    yield "png zlib header wrong", png(data=b"\x78\x00" + packed_data[2:])
    yield "png more rows than said", png(data=zlib.compress(raw + raw))
    yield "png fewer rows than said", png(data=zlib.compress(raw[:-(3 * WIDTH + 1)]))
    yield "png half a row too few", png(data=zlib.compress(raw[:-20]))
    yield "png no rows", png(data=zlib.compress(b""))
    yield "png filter 5", png(data=zlib.compress(b"\5" + raw[1:]))
    yield "png stored blocks", png(data=zlib.compress(raw, 0))
    yield "png data after iend", plain + b"more than a picture" * 9
    yield "png text after pixels, crc wrong", png(after=chunk(b"tEXt", b"a\0b", crc=1))
    yield "png text after pixels, length too long", png(after=chunk(b"tEXt", b"a\0b", length=70))
    yield "png nonsense after pixels", png(after=b"\0\1\2\3nonsense")
    for kind, body in [(b"tEXt", b"no separator"), (b"tEXt", b"a\0b"), (b"tEXt", b""), (b"zTXt", b"a\0\0not packed"), (b"zTXt", b"a\0\7x"),
                       (b"iTXt", b"a"), (b"iTXt", b"a\0\1\0l\0t\0x"), (b"iCCP", b"a\0\0not packed"), (b"iCCP", b"a\0\1x"), (b"iCCP", b""),
                       (b"iCCP", b"a\0\0" + zlib.compress(b"profile")), (b"gAMA", b"\0\0"), (b"gAMA", b"\0\1\x86\xa0"),
                       (b"cHRM", b"\0" * 3), (b"cHRM", b"\0" * 32), (b"sRGB", b""), (b"sRGB", b"\0"), (b"pHYs", b"\0" * 2),
                       (b"pHYs", b"\0" * 9), (b"eXIf", b"nonsense"), (b"tIME", b"\0"), (b"bKGD", b""), (b"hIST", b"\0"),
                       (b"sBIT", b""), (b"acTL", b"\0" * 8), (b"acTL", b"\0"), (b"fcTL", b"\0"), (b"vpAg", b"x" * 9),
                       (b"CgBI", b"\0" * 4), (b"ABCD", b"critical"), (b"a1_Z", b"odd name"), (b"ab!d", b"no name"), (b"PLTE", noise(2, 12)),
                       (b"PLTE", noise(2, 11)), (b"tRNS", noise(2, 6)), (b"tRNS", b"\0")]:
        name = f"png {kind.decode()} of {len(body)} {zlib.crc32(body) % 97}"
        yield name, png(before=chunk(kind, body))
        yield f"{name} crc wrong", png(before=chunk(kind, body, crc=1))
    for color, body in [(0, b"\0\x50"), (2, b"\0\1\0\2\0\3"), (3, noise(3, 100)), (3, b"\xff\0\xff"), (4, b"\0\0"), (6, b"\0" * 6)]:
        yield f"png tRNS for color {color} of {len(body)}", png(color, before=chunk(b"tRNS", body))
    for bits in (1, 2, 4, 16):
        yield f"png tRNS for grey of {bits} bits", png(0, bits, before=chunk(b"tRNS", b"\0\1"))
    yield "png palette missing", png(3, plte=b"")
    yield "png palette short", png(3, plte=chunk(b"PLTE", noise(1, 30)))
    yield "png palette of odd length", png(3, plte=chunk(b"PLTE", noise(1, 31)))
    yield "png palette empty", png(3, plte=chunk(b"PLTE", b""))
    yield "png palette crc wrong", png(3, plte=chunk(b"PLTE", noise(1, 768), crc=0))
    yield "png palette behind pixels", png(3, plte=b"", after=chunk(b"PLTE", noise(1, 768)))
    yield "png two palettes", png(3, before=chunk(b"PLTE", noise(4, 768)))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    for name, ihdr in [("long", head + b"more"), ("short", head[:12]), ("method 1", head[:10] + b"\1\0\0"), ("filter 1", head[:11] + b"\1\0"),
                       ("interlace 2", head[:12] + b"\2"), ("color 1", head[:9] + b"\1\0\0\0"), ("bits 3", head[:8] + b"\3\2\0\0\0"),
                       ("bits 4 of rgb", head[:8] + b"\4\2\0\0\0"), ("no width", bytes(4) + head[4:]), ("no height", head[:4] + bytes(4) + head[8:])]:
        yield f"png ihdr {name}", png(ihdr=ihdr)
    yield "png ihdr crc wrong", plain[:29] + b"\0\0\0\0" + plain[33:]
    yield "png no ihdr", plain[:8] + plain[33:]
    yield "png two ihdr", png(before=chunk(b"IHDR", head))
    yield "png no idat", plain[:33] + chunk(b"IEND")
    yield "png signature only", plain[:8]
    yield "png jng", b"\x8bJNG\r\n\x1a\n" + plain[8:]


# GIF

def gif_codes(indices, bits=8, end=True):
    """Without compression: every code is an index; cleared before codes grow."""
    out, count, value = bytearray(), 0, 0
    codes = []
    for n, index in enumerate(indices):
        if n % max(1, (1 << bits) - 2) == 0:
            codes.append(1 << bits)
        codes.append(index)
    if end:
        codes.append((1 << bits) + 1)
    for code in codes:
        value |= code << count
        count += bits + 1
        while count >= 8:
            out.append(value & 255)
            value >>= 8
            count -= 8
    if count:
        out.append(value)
    return bytes(out)


def blocks(data, size=255):
    return b"".join(bytes([len(data[n:n + size])]) + data[n:n + size] for n in range(0, len(data), size)) + b"\0"


def gif(screen=(WIDTH, HEIGHT), frame=(0, 0, WIDTH, HEIGHT), palette=noise(5, 768), local=None, before=b"", flags=0, bits=8,
        trailer=b";", data=None, version=b"89a", mod=251):
    indices = [value[0] * 3 % mod for row in smooth(1, frame[2], frame[3]) for value in zip(row)]
    if flags & 0x40:
        rows = [indices[n * frame[2]:(n + 1) * frame[2]] for n in range(frame[3])]
        order = [*range(0, frame[3], 8), *range(4, frame[3], 8), *range(2, frame[3], 4), *range(1, frame[3], 2)]
        indices = [value for n in order for value in rows[n]]
    table = lambda colors: (len(colors) // 3).bit_length() - 2
    head = b"GIF" + version + struct.pack("<HHBBB", *screen, (0x80 | table(palette)) if palette else 0, 0, 0) + (palette or b"")
    head += before + b"," + struct.pack("<HHHHB", *frame, flags | ((0x80 | table(local)) if local else 0)) + (local or b"")
    return head + bytes([bits]) + (blocks(gif_codes(indices, bits)) if data is None else data) + trailer


def gifs():
    grey = bytes(n // 3 for n in range(768))
    control = lambda flags, index: b"!\xf9\4" + bytes([flags, 5, 0, index]) + b"\0"
    yield "gif plain", gif()
    yield "gif 87a", gif(version=b"87a")
    yield "gif 90a", gif(version=b"90a")
    yield "gif no palette", gif(palette=None)
    yield "gif no palette, transparent", gif(palette=None, before=control(1, 9))
    yield "gif grey palette", gif(palette=grey)
    yield "gif grey palette, local colours", gif(palette=grey, local=noise(6, 768))
    yield "gif colours, local grey palette", gif(local=grey)
    yield "gif local palette only", gif(palette=None, local=noise(6, 768))
    yield "gif palette of 4", gif(palette=noise(7, 12), bits=2, mod=4)
    yield "gif palette of 2", gif(palette=noise(7, 6), bits=2, mod=2)
    yield "gif palette of 4, indices beyond it", gif(palette=noise(7, 12), bits=8)
    yield "gif codes of 1 bit", gif(bits=1, mod=2)
    yield "gif codes of 9 bits", gif(bits=9)
    yield "gif codes of 13 bits", gif(bits=13)
    yield "gif transparent", gif(before=control(1, 9))
    yield "gif control without transparency", gif(before=control(0, 9))
    yield "gif two controls", gif(before=control(1, 9) + control(1, 20))
    yield "gif control cut short", gif(before=b"!\xf9\2\1\0\0")
    yield "gif interlaced", gif(flags=0x40)
    for height in (1, 2, 3, 4, 5, 9):
        yield f"gif interlaced, {height} rows", gif(screen=(WIDTH, height), frame=(0, 0, WIDTH, height), flags=0x40)
    yield "gif no trailer", gif(trailer=b"")
    yield "gif cut in last block", gif(trailer=b"")[:-1]
    for cut in (2, 3, 5, 40, 200):
        yield f"gif cut by {cut}", gif(trailer=b"")[:-cut]
    yield "gif other trailer", gif(trailer=b"\0")
    yield "gif data after trailer", gif(trailer=b";" + noise(1, 50))
    yield "gif second frame cut", gif(trailer=gif()[13 + 768:][:60])
    yield "gif second frame nonsense", gif(trailer=b"," + noise(9, 30))
    yield "gif nothing before the frame but zeros", gif(before=b"\0\0\0")
    yield "gif letters before the frame", gif(before=b"abc")
    yield "gif comment", gif(before=b"!\xfe\5hello\0")
    yield "gif comment without end", gif(before=b"!\xfe\5hello")
    yield "gif loop", gif(before=b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0")
    yield "gif unknown extension", gif(before=b"!\x77\3abc\2de\0")
    yield "gif frame inside", gif(frame=(3, 2, 10, 9))
    yield "gif frame inside, transparent", gif(frame=(3, 2, 10, 9), before=control(1, 9))
    yield "gif frame sticks out", gif(screen=(10, 10))
    yield "gif screen without sides", gif(screen=(0, 0))
    yield "gif screen too large", gif(screen=(60, 40))
    yield "gif frame without width", gif(frame=(0, 0, 0, HEIGHT), data=b"\0")
    yield "gif one pixel", gif(screen=(1, 1), frame=(0, 0, 1, 1))
    codes = gif_codes([value % 251 for row in smooth(1) for value in row])
    yield "gif small blocks", gif(data=blocks(codes, 7))
    yield "gif no end code", gif(data=blocks(gif_codes([v % 251 for r in smooth(1) for v in r], end=False)))
    yield "gif end code early", gif(data=blocks(gif_codes([1] * 100)))
    yield "gif more pixels than the frame", gif(data=blocks(gif_codes([v % 251 for r in smooth(1) for v in r] * 2)))
    yield "gif no clear code", gif(data=blocks(bytes([1, 0, 0, 0]) + codes))
    yield "gif nonsense codes", gif(data=blocks(noise(8, 500)))
    yield "gif empty data", gif(data=b"\0")
    buffer = io.BytesIO()
    picture("P").save(buffer, "GIF")
    yield "gif by pillow", buffer.getvalue()
    buffer = io.BytesIO()
    Image.frombytes("L", (90, 60), bytes((x // 9 * 20 + y // 7) % 256 for y in range(60) for x in range(90))).save(buffer, "GIF")
    yield "gif by pillow, long runs", buffer.getvalue()


# BMP

def bmp(bits=24, header=40, compression=0, top_down=False, colors=None, masks=b"", palette=None, data=None, extra=b"", offset=None,
        said_colors=0, mod=None, size=(WIDTH, HEIGHT)):
    width, height = size
    channels = {1: 1, 2: 1, 4: 1, 8: 1, 16: 1, 24: 3, 32: 4, 48: 6, 64: 8}[bits]
    sample = bits // channels
    if data is None:
        rows = packed([[v % (mod or 1 << sample) for v in row] for row in smooth(channels, width, height, sample)], sample, "<")
        rows = [row + bytes(-len(row) % 4) for row in rows]
        data = b"".join(rows if top_down else rows[::-1])
    if bits <= 8 and palette is None:
        palette = noise(9, (1 << bits) * (3 if header == 12 else 4))
    palette = palette or b""
    if header == 12:
        dib = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        dib = struct.pack("<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression, len(data), 2835, 2835,
                          said_colors, 0)
        if header > 40:
            dib += masks[:header - 40]
            dib += bytes(header - len(dib))
            masks = b""
        dib = dib[:header]
    at = 14 + len(dib) + len(masks) + len(palette) + len(extra)
    return b"BM" + struct.pack("<IHHI", at + len(data), 0, 0, at if offset is None else offset) + dib + masks + palette + extra + data


def rle(rows, narrow=False):
    out = b""
    for row in rows[::-1]:
        row = [value % (16 if narrow else 256) for value in row]
        n = 0
        while n < len(row):
            if n % 9 < 4 or len(row) - n < 3:
                count = min(4, len(row) - n)
                out += bytes([count, (row[n] << 4 | row[n]) if narrow else row[n]])
            else:
                count = min(5, len(row) - n)
                part = row[n:n + count]
                if narrow:
                    part = part + [0] * (len(part) % 2)
                    part = [part[i] << 4 | part[i + 1] for i in range(0, len(part), 2)]
                out += bytes([0, count]) + bytes(part) + b"\0" * (len(part) % 2)
            n += count
        out += b"\0\0"
    return out + b"\0\1"


def bmps():
    for header in (12, 40, 52, 56, 64, 108, 124):
        for bits in (1, 4, 8, 16, 24, 32):
            yield f"bmp header {header} bits {bits}", bmp(bits, header)
    for header in (16, 20, 39, 42, 60, 200):
        yield f"bmp header {header}", bmp(24, header)
    for bits in (1, 8, 24, 32):
        yield f"bmp top down {bits}", bmp(bits, top_down=True)
    yield "bmp top down v5", bmp(24, 124, top_down=True)
    four = lambda *masks: struct.pack(f"<{len(masks)}I", *masks)
    layouts = {
        32: [(0xFF0000, 0xFF00, 0xFF, 0), (0xFF000000, 0xFF0000, 0xFF00, 0), (0xFF000000, 0xFF00, 0xFF, 0), (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
             (0xFF, 0xFF00, 0xFF0000, 0xFF000000), (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF000000, 0xFF00, 0xFF, 0xFF0000), (0, 0, 0, 0),
             (0xFF, 0xFF00, 0xFF0000, 0), (0x3FF00000, 0xFFC00, 0x3FF, 0), (1, 2, 4, 8)],
        24: [(0xFF0000, 0xFF00, 0xFF, 0), (0xFF, 0xFF00, 0xFF0000, 0)],
        16: [(0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0), (0xF00, 0xF0, 0xF, 0), (0x7C00, 0x3E0, 0x1F, 0x8000)],
        8: [(0xE0, 0x1C, 0x3, 0)],
    }
    for bits, kinds in layouts.items():
        for masks in kinds:
            words = " ".join(f"{mask:x}" for mask in masks)
            for header in (40, 52, 56, 108, 124):
                yield f"bmp bit fields {bits} header {header}: {words}", bmp(bits, header, 3, masks=four(*masks[:3 if header < 56 else 4]))
    grey = b"".join(bytes([n, n, n, 0]) for n in range(256))
    yield "bmp grey palette", bmp(8, palette=grey)
    yield "bmp grey palette, os/2", bmp(8, 12, palette=b"".join(bytes([n] * 3) for n in range(256)))
    yield "bmp black and white", bmp(1, palette=bytes(4) + b"\xff\xff\xff\0")
    yield "bmp white and black", bmp(1, palette=b"\xff\xff\xff\0" + bytes(4))
    yield "bmp grey of four bits", bmp(4, palette=b"".join(bytes([n, n, n, 0]) for n in range(16)))
    for said in (1, 2, 5, 16, 255, 257, 300, 65_536, 65_537):
        yield f"bmp {said} colours said", bmp(8, said_colors=said, palette=noise(9, 4 * min(said, 400)), mod=min(said, 256))
    yield "bmp 2 colours said, black and white", bmp(8, said_colors=2, palette=bytes(4) + b"\xff\xff\xff\0", mod=2)
    yield "bmp 1 colour said, black", bmp(8, said_colors=1, palette=bytes(4), mod=1)
    yield "bmp 16 colours said, grey", bmp(8, said_colors=16, palette=grey[:64], mod=16)
    yield "bmp palette forgotten in the offset", bmp(8, offset=54)
    yield "bmp no offset", bmp(24, offset=0)
    yield "bmp no offset, palette", bmp(8, offset=0)
    yield "bmp gap before pixels", bmp(24, extra=b"gap!" * 4)
    yield "bmp gap before pixels, palette", bmp(8, extra=b"gap!" * 4)
    yield "bmp offset behind the end", bmp(24, offset=999_999)
    for bits in (2, 48, 64):
        yield f"bmp bits {bits}", bmp(bits)
    for compression in (4, 5, 6, 11):
        yield f"bmp compression {compression}", bmp(24, compression=compression)
    for cut in (1, 2, 3, 4, 100):
        yield f"bmp cut by {cut}", bmp(24)[:-cut]
        yield f"bmp cut by {cut}, 8 bits", bmp(8)[:-cut]
    yield "bmp one pixel", bmp(24, size=(1, 1))
    yield "bmp cut in palette", bmp(8)[:200]
    yield "bmp cut in header", bmp(24)[:40]
    yield "bmp file size wrong", b"BM\0\0\0\0" + bmp(24)[6:]
    yield "bmp data after it", bmp(24) + noise(1, 99)
    yield "bmp no width", bmp(24, size=(0, HEIGHT), data=b"")
    rows = smooth(1)
    runs = {8: rle(rows), 4: rle(rows, True)}
    for bits, compression in [(8, 1), (4, 2), (8, 2), (4, 1), (1, 1), (24, 1)]:
        yield f"bmp runs {compression} of {bits} bits", bmp(bits, compression=compression, data=runs.get(bits, runs[8]))
    yield "bmp runs, grey palette", bmp(8, compression=1, data=runs[8], palette=grey)
    yield "bmp runs, black and white", bmp(8, compression=1, data=runs[8], palette=bytes(4) + b"\xff\xff\xff\0", said_colors=2)
    yield "bmp runs, top down", bmp(8, compression=1, data=runs[8], top_down=True)
    yield "bmp runs, os/2 header", bmp(8, 64, compression=1, data=runs[8])
    yield "bmp runs without end", bmp(8, compression=1, data=runs[8][:-2])
    yield "bmp runs cut", bmp(8, compression=1, data=runs[8][:-30])
    yield "bmp runs end early", bmp(8, compression=1, data=runs[8][:100] + b"\0\1")
    yield "bmp runs too long", bmp(8, compression=1, data=b"\xff\7" * 30)
    yield "bmp runs jump", bmp(8, compression=1, data=b"\3\7\0\2\2\3" + b"\x13\5\0\0" * 12 + b"\0\1")
    yield "bmp runs jump far", bmp(8, compression=1, data=b"\3\7\0\2\xff\xff")
    yield "bmp runs jump cut", bmp(8, compression=1, data=b"\3\7\0\2\2")
    yield "bmp runs, literal too long", bmp(8, compression=1, data=b"\0\xff" + noise(3, 255) + b"\0\0\xff" + noise(4, 256))
    yield "bmp runs, literals of odd length", bmp(8, compression=1, data=(b"\0\x13" + noise(3, 19) + b"\0\0\0") * HEIGHT + b"\0\1", extra=b"x")


# TIFF

TYPES = {"B": 1, "A": 2, "H": 3, "I": 4, "U": 7, "Q": 16}


def tiff(tags, pieces, order="<", big=False, offsets_tag=273, lengths_tag=279, magic=None, next_page=0, behind=b""):
    """`tags`: number to (type, values); `pieces`: the strips or tiles."""
    word, wide, head = ("Q", 8, 16) if big else ("I", 4, 8)
    body = b"".join(pieces) + behind
    places = [head + sum(len(piece) for piece in pieces[:n]) for n in range(len(pieces))]
    tags = {**{offsets_tag: ("I", places), lengths_tag: ("I", [len(piece) for piece in pieces])}, **tags}
    tags = {tag: value for tag, value in tags.items() if value is not None}
    at = head + len(body) + (len(body) % 2)
    entry_bytes = 20 if big else 12
    spare_at = at + (8 if big else 2) + entry_bytes * len(tags) + wide
    entries, spare = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        if kind in "AU":
            data, count = bytes(values), len(values)
        else:
            data, count = struct.pack(f"{order}{len(values)}{kind}", *values), len(values)
        entries += struct.pack(f"{order}HH{word}", tag, TYPES[kind], count)
        if len(data) <= wide:
            entries += data + bytes(wide - len(data))
        else:
            entries += struct.pack(order + word, spare_at + len(spare))
            spare += data + bytes(len(data) % 2)
    mark = b"II" if order == "<" else b"MM"
    version = (43 if big else 42) if magic is None else magic
    out = mark + (struct.pack(order + "HHHQ", version, 8, 0, at) if big else struct.pack(order + "HI", version, at))
    out += body + bytes(len(body) % 2)
    return out + struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + struct.pack(order + word, next_page) + spare


def pack_bits(data):
    out, n = b"", 0
    while n < len(data):
        run = 1
        while run < 100 and n + run < len(data) and data[n + run] == data[n]:
            run += 1
        if run > 2:
            out += bytes([257 - run, data[n]])
        else:
            run = min(40, len(data) - n)
            out += bytes([run - 1]) + data[n:n + run]
        n += run
    return out


def lzw(data):
    """Every byte a code of nine bits, cleared before codes grow."""
    text = "".join(("100000000" if n % 250 == 0 else "") + format(value, "09b") for n, value in enumerate(data)) + "100000001"
    text += "0" * (-len(text) % 8)
    return bytes(int(text[n:n + 8], 2) for n in range(0, len(text), 8))


COMPRESS = {1: bytes, 5: lzw, 8: zlib.compress, 32946: zlib.compress, 32773: pack_bits}


def differences(row, step, modulo):
    return [(value - (row[n - step] if n >= step else 0)) % modulo for n, value in enumerate(row)]


def tiff_of(photometric, channels, bits, order="<", planar=1, compression=1, rows_per_strip=5, tile=None, predictor=1, extra=None, fmt=None,
            fill_order=1, big=False, tags=None, values=None, **rest):
    values = smooth(channels, bits=bits) if values is None else values
    def encoded(part, step):
        if predictor == 2:
            part = [differences(row, step, 1 << bits) for row in part]
        lines = b"".join(packed(part, bits, order))
        if fill_order == 2:
            lines = bytes(int(format(byte, "08b")[::-1], 2) for byte in lines)
        data = COMPRESS[compression](lines)
        return data
    planes = [[row[c::channels] for row in values] for c in range(channels)] if planar == 2 else [values]
    step = 1 if planar == 2 else channels
    pieces = []
    for plane in planes:
        if tile:
            w, h = tile
            for y in range(0, HEIGHT, h):
                for x in range(0, WIDTH, w):
                    part = [row[x * step:(x + w) * step] for row in plane[y:y + h]]
                    part = [row + [0] * (w * step - len(row)) for row in part]
                    part += [[0] * (w * step)] * (h - len(part))
                    pieces.append(encoded(part, step))
        else:
            for y in range(0, HEIGHT, rows_per_strip):
                pieces.append(encoded(plane[y:y + rows_per_strip], step))
    known = {256: ("I", [WIDTH]), 257: ("I", [HEIGHT]), 258: ("H", [bits] * channels), 259: ("H", [compression]), 262: ("H", [photometric]),
             277: ("H", [channels])}
    if tile:
        known.update({322: ("I", [tile[0]]), 323: ("I", [tile[1]])})
        rest.update(offsets_tag=324, lengths_tag=325)
    else:
        known[278] = ("I", [rows_per_strip])
    if planar != 1:
        known[284] = ("H", [planar])
    if predictor != 1:
        known[317] = ("H", [predictor])
    if extra is not None:
        known[338] = ("H", extra)
    if fmt is not None:
        known[339] = ("H", [fmt] * channels)
    if fill_order != 1:
        known[266] = ("H", [fill_order])
    known.update(tags or {})
    return tiff(known, pieces, order, big, **rest)


def saved(image, **how):
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **how)
    return buffer.getvalue()


def tiffs():
    for order, name in [("<", "little"), (">", "big")]:
        for photometric in (0, 1):
            for bits in (1, 2, 4, 8, 16):
                yield f"tiff {name} grey {bits} photometric {photometric}", tiff_of(photometric, 1, bits, order)
        for bits in (1, 2, 4, 8):
            colors = ("H", [value * 257 for value in noise(bits, 3 << bits)])
            yield f"tiff {name} palette {bits}", tiff_of(3, 1, bits, order, tags={320: colors})
        for bits in (8, 16):
            for extra, count in [(None, 3), (None, 4), ([0], 4), ([1], 4), ([2], 4), ([999], 4), ([0, 0], 5), ([2, 0], 5), ([1, 0], 5),
                                 ([2, 0, 0], 6)]:
                yield f"tiff {name} rgb {bits} of {count} extra {extra}", tiff_of(2, count, bits, order, extra=extra)
            for extra, count in [(None, 4), ([0], 5), ([0, 0], 6), ([1], 5)]:
                yield f"tiff {name} cmyk {bits} extra {extra}", tiff_of(5, count, bits, order, extra=extra)
            for planar_of, count in [(2, 3), (2, 4), (5, 4)]:
                for compression in (1, 5, 8):
                    yield (f"tiff {name} planes {bits} photometric {planar_of} of {count} compression {compression}",
                           tiff_of(planar_of, count, bits, order, planar=2, compression=compression))
        for extra in ([0], [1], [2]):
            yield f"tiff {name} grey with extra {extra}", tiff_of(1, 2, 8, order, extra=extra)
            yield f"tiff {name} palette with extra {extra}", tiff_of(3, 2, 8, order, extra=extra, tags={320: ("H", [v * 257 for v in noise(8, 768)])})
        for compression in (5, 8, 32946, 32773):
            for count, bits in [(1, 1), (1, 4), (1, 8), (1, 16), (3, 8), (3, 16), (4, 8)]:
                photometric = 2 if count > 1 else 1
                yield f"tiff {name} compression {compression} {count} x {bits}", tiff_of(photometric, count, bits, order, compression=compression)
                if bits >= 8 and compression != 32773:
                    yield (f"tiff {name} compression {compression} predicted {count} x {bits}",
                           tiff_of(photometric, count, bits, order, compression=compression, predictor=2))
        for tile in ((16, 16), (32, 32), (16, 32)):
            for compression in (1, 5, 8):
                yield f"tiff {name} tiles {tile} compression {compression}", tiff_of(2, 3, 8, order, tile=tile, compression=compression)
        yield f"tiff {name} tiles of planes", tiff_of(2, 3, 8, order, tile=(16, 16), planar=2, compression=8)
        yield f"tiff {name} tiles of planes, raw", tiff_of(2, 3, 8, order, tile=(16, 16), planar=2)
        yield f"tiff {name} tiles of one bit", tiff_of(1, 1, 1, order, tile=(16, 16), compression=8)
        floats = [[(x * y) / 3.7 - 20 + (x % 3) * 40.5 for x in range(WIDTH)] for y in range(HEIGHT)]
        bits_of = [[struct.unpack(">I", struct.pack(">f", value))[0] for value in row] for row in floats]
        for photometric in (0, 1):
            for compression in (1, 5, 8):
                yield (f"tiff {name} float photometric {photometric} compression {compression}",
                       tiff_of(photometric, 1, 32, order, fmt=3, values=bits_of, compression=compression))
        yield f"tiff {name} float predicted 2", tiff_of(1, 1, 32, order, fmt=3, values=bits_of, compression=8, predictor=2)
        odd = [[[float("nan"), float("inf"), -float("inf"), 300.0, -3.0, 0.5][(x + y) % 6] for x in range(WIDTH)] for y in range(HEIGHT)]
        yield (f"tiff {name} float of no numbers", tiff_of(1, 1, 32, order, fmt=3, values=[
            [struct.unpack(">I", struct.pack(">f", value))[0] for value in row] for row in odd]))
        for fmt in (1, 2):
            for bits in (8, 16, 32):
                wide = [[(x * 37 + y * 11 - 60) % (1 << bits) for x in range(WIDTH)] for y in range(HEIGHT)]
                yield f"tiff {name} integers {bits} format {fmt}", tiff_of(1, 1, bits, order, fmt=fmt, values=wide)
                yield f"tiff {name} integers {bits} format {fmt} packed", tiff_of(1, 1, bits, order, fmt=fmt, values=wide, compression=8)
        yield f"tiff {name} big", tiff_of(2, 3, 8, order, big=True)
        yield f"tiff {name} big, compressed", tiff_of(2, 3, 8, order, big=True, compression=8)
        for fill_of in [(1, 1), (1, 4), (1, 8), (3, 8), (1, 16)]:
            photometric = 2 if fill_of[0] == 3 else 1
            for compression in (1, 8):
                yield (f"tiff {name} bits turned round {fill_of} compression {compression}",
                       tiff_of(photometric, *fill_of, order, fill_order=2, compression=compression))
        for number in range(0, 10):
            yield f"tiff {name} orientation {number}", tiff_of(2, 3, 8, order, tags={274: ("H", [number])})
    twelve = b"".join(bytes(int("".join(format(v % 4096, "012b") for v in row + [0])[n:n + 8], 2) for n in range(0, WIDTH * 12 + 4, 8))
                      for row in smooth(1, bits=12))
    for order in "<>":
        yield f"tiff twelve bits {order}", tiff({256: ("I", [WIDTH]), 257: ("I", [HEIGHT]), 258: ("H", [12]), 262: ("H", [1])}, [twelve], order)
    for how in ("group3", "group4", "tiff_ccitt"):
        bits = picture("L").convert("1")
        yield f"tiff {how}", saved(bits, compression=how)
        yield f"tiff {how}, strips", saved(bits, compression=how, tiffinfo={278: 4})
        yield f"tiff {how}, runs", saved(Image.frombytes("1", (200, 9), bytes([0, 255, 255, 0, 15] * 45)), compression=how)
        yield f"tiff {how}, wide", saved(Image.frombytes("1", (3000, 3), (bytes(200) + b"\xff" * 175) * 3), compression=how)
        yield f"tiff {how}, white", saved(Image.new("1", (40, 5), 1), compression=how)
        yield f"tiff {how}, black", saved(Image.new("1", (40, 5), 0), compression=how)
        yield f"tiff {how}, black is 0", saved(bits, compression=how, tiffinfo={262: 1})
        yield f"tiff {how}, white is 0", saved(bits, compression=how, tiffinfo={262: 0})
        yield f"tiff {how}, bits turned round", saved(bits, compression=how, tiffinfo={266: 2})
        yield f"tiff {how}, cut", (lambda data: data[:10] + data[30:])(saved(bits, compression=how))
    yield "tiff group3 in two dimensions", saved(picture("L").convert("1"), compression="group3", tiffinfo={292: 1})
    yield "tiff group3 with fill bits", saved(picture("L").convert("1"), compression="group3", tiffinfo={292: 4})
    for mode in ("L", "RGB", "CMYK", "YCbCr"):
        for quality in (50, 95):
            yield f"tiff jpeg {mode} {quality}", saved(picture(mode), compression="jpeg", quality=quality)
        yield f"tiff jpeg {mode} strips", saved(picture(mode, 40, 40), compression="jpeg", tiffinfo={278: 16})
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB", "YCbCr"):
        for how in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma", "webp"):
            try:
                image = picture("L").convert("1") if mode == "1" else picture("L").convert("P") if mode == "P" else picture("RGB").convert(mode) \
                    if mode in ("I", "F", "LAB", "YCbCr", "LA") else Image.frombytes(mode, (WIDTH, HEIGHT), noise(4, WIDTH * HEIGHT * 2)) \
                    if mode == "I;16" else picture(mode)
                yield f"tiff {mode} by pillow, {how}", saved(image, compression=how)
            except (OSError, ValueError, KeyError):
                pass
    plain = tiff_of(2, 3, 8)
    yield "tiff two pages", (lambda b: (b.seek(0), b.getvalue())[1])((lambda b: (picture().save(b, "TIFF", save_all=True, append_images=[picture("L")]), b)[1])(io.BytesIO()))
    for name, tags in [("no photometric", {262: None}), ("no bits", {258: None}), ("no samples", {277: None}), ("one number for bits", {258: ("H", [8])}),
                       ("no rows per strip", {278: None}), ("rows per strip huge", {278: ("I", [0xFFFFFFFF])}), ("no lengths", {279: None}),
                       ("no offsets", {273: None}), ("no width", {256: None}), ("width 0", {256: ("I", [0])}), ("lengths short", {279: ("I", [3] * 4)}),
                       ("lengths of 0", {279: ("I", [0] * 4)}), ("short sizes", {256: ("H", [WIDTH]), 257: ("H", [HEIGHT])}),
                       ("compression unknown", {259: ("H", [77])}), ("thunderscan", {259: ("H", [32809])}), ("lab", {262: ("H", [8])}),
                       ("ycbcr raw", {262: ("H", [6])}), ("mask", {262: ("H", [4])}), ("photometric 32844", {262: ("I", [32844])}),
                       ("formats differ", {339: ("H", [1, 2, 1])}), ("bits differ", {258: ("H", [8, 8, 16])}), ("too many bits", {258: ("H", [8] * 4)}),
                       ("more samples than bits", {277: ("H", [4])}), ("planes 3", {284: ("H", [3])}), ("predictor for nothing", {317: ("H", [2])}),
                       ("samples 0", {277: ("H", [0])}), ("software", {305: ("A", b"ours\0")}), ("profile", {34675: ("U", b"no profile")})]:
        yield f"tiff {name}", tiff_of(2, 3, 8, tags=tags)
    yield "tiff one strip", tiff_of(2, 3, 8, rows_per_strip=HEIGHT)
    yield "tiff one strip, packed", tiff_of(2, 3, 8, rows_per_strip=HEIGHT, compression=8)
    yield "tiff magic turned round", plain[:2] + plain[3:1:-1] + plain[4:]
    yield "tiff next page nowhere", tiff_of(2, 3, 8, next_page=999_999)
    yield "tiff next page itself", tiff_of(2, 3, 8, next_page=8)
    yield "tiff data after it", plain + noise(1, 90)
    for cut in (1, 40, 200, len(plain) - 100):
        yield f"tiff cut by {cut}", plain[:-cut]
    packed_one = tiff_of(2, 3, 8, compression=8)
    yield "tiff packed data damaged", packed_one[:60] + b"\xff\xff\xff" + packed_one[63:]
    yield "tiff lzw data damaged", (lambda b: b[:60] + b"\xff\xff\xff" + b[63:])(tiff_of(2, 3, 8, compression=5))
    yield "tiff packbits short", tiff_of(2, 3, 8, compression=32773, tags={279: ("I", [40] * 4)})


# WebP

def riff(*parts, size=None, tail=b""):
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body + tail


def part(kind, body, length=None):
    return kind + struct.pack("<I", len(body) if length is None else length) + body + bytes(len(body) % 2)


def webps():
    def coded(mode, **how):
        buffer = io.BytesIO()
        picture(mode).save(buffer, "WEBP", **how)
        found, at, data = {}, 12, buffer.getvalue()
        while at + 8 <= len(data):
            length = struct.unpack("<I", data[at + 4:at + 8])[0]
            found[data[at:at + 4]] = data[at + 8:at + 8 + length]
            at += 8 + length + length % 2
        return data, found
    head = lambda flags, width=WIDTH, height=HEIGHT: part(
        b"VP8X", bytes([flags, 0, 0, 0]) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3])
    lossy_file, lossy = coded("RGB", quality=70)
    alpha_file, alpha = coded("RGBA", quality=70)
    exact_file, exact = coded("RGB", lossless=True)
    clear_file, clear = coded("RGBA", lossless=True, exact=True)
    for name, data in [("lossy", lossy_file), ("lossy alpha", alpha_file), ("lossless", exact_file), ("lossless alpha", clear_file)]:
        yield f"webp {name}", data
        yield f"webp {name}, data after it", data + b"more"
        yield f"webp {name}, size too small", data[:4] + struct.pack("<I", len(data) - 20) + data[8:]
        yield f"webp {name}, size too large", data[:4] + struct.pack("<I", len(data)) + data[8:]
        yield f"webp {name}, size of 0", data[:4] + bytes(4) + data[8:]
        for cut in (1, 2, 30):
            yield f"webp {name}, cut by {cut}", data[:-cut]
            yield f"webp {name}, cut by {cut}, size mended", data[:4] + struct.pack("<I", len(data) - 8 - cut) + data[8:-cut]
    vp8, vp8l = part(b"VP8 ", lossy[b"VP8 "]), part(b"VP8L", exact[b"VP8L"])
    for flags in range(0, 256, 4):
        yield f"webp flags {flags:#x}", riff(head(flags), vp8)
    for flags in (0, 0x10, 0x2C):
        yield f"webp lossless, flags {flags:#x}", riff(head(flags), vp8l)
        yield f"webp lossless alpha, flags {flags:#x}", riff(head(flags), part(b"VP8L", clear[b"VP8L"]))
        yield f"webp alpha, flags {flags:#x}", riff(head(flags), part(b"ALPH", alpha[b"ALPH"]), part(b"VP8 ", alpha[b"VP8 "]))
    yield "webp chunks that are not announced", riff(head(0), part(b"ICCP", b"profile"), vp8, part(b"EXIF", b"exif"), part(b"XMP ", b"xmp"))
    yield "webp chunks that are announced", riff(head(0x2C), part(b"ICCP", b"profile"), vp8, part(b"EXIF", b"exif"), part(b"XMP ", b"xmp"))
    yield "webp profile behind", riff(head(0x20), vp8, part(b"ICCP", b"profile"))
    yield "webp unknown chunks", riff(head(0), part(b"abcd", b"x"), vp8, part(b"efgh", b"yz"))
    yield "webp simple, then chunks", riff(vp8, part(b"EXIF", b"exif"))
    yield "webp simple, then nonsense", riff(vp8, b"nonse")
    yield "webp unknown chunk first", riff(part(b"abcd", b"x"), vp8)
    yield "webp alpha behind", riff(head(0x10), part(b"VP8 ", alpha[b"VP8 "]), part(b"ALPH", alpha[b"ALPH"]))
    yield "webp two images", riff(head(0), vp8, vp8)
    yield "webp no image", riff(head(0), part(b"EXIF", b"exif"))
    yield "webp other canvas", riff(head(0, WIDTH + 1), vp8)
    yield "webp header long", riff(part(b"VP8X", bytes(4) + struct.pack("<I", WIDTH - 1)[:3] + struct.pack("<I", HEIGHT - 1)[:3] + b"more"), vp8)
    yield "webp header short", riff(part(b"VP8X", bytes(8)), vp8)
    yield "webp chunk too long", riff(part(b"VP8 ", lossy[b"VP8 "], len(lossy[b"VP8 "]) + 9))
    yield "webp chunk too short", riff(part(b"VP8 ", lossy[b"VP8 "], 40))
    yield "webp chunk of odd length without padding", riff(part(b"VP8 ", lossy[b"VP8 "] + b"\0" * (1 - len(lossy[b"VP8 "]) % 2))[:-1])
    yield "webp alpha damaged", riff(head(0x10), part(b"ALPH", b"\0" + noise(1, 10)), part(b"VP8 ", alpha[b"VP8 "]))
    yield "webp alpha raw", riff(head(0x10), part(b"ALPH", b"\0" + noise(1, WIDTH * HEIGHT)), part(b"VP8 ", alpha[b"VP8 "]))
    for way in range(4):
        yield f"webp alpha raw, filter {way}", riff(head(0x10), part(b"ALPH", bytes([way << 2]) + noise(1, WIDTH * HEIGHT)), part(b"VP8 ", alpha[b"VP8 "]))
    frame = lambda x, y, w, h, flags, *inner: part(b"ANMF", b"".join(
        struct.pack("<I", n)[:3] for n in (x // 2, y // 2, w - 1, h - 1, 100)) + bytes([flags]) + b"".join(inner))
    anim = part(b"ANIM", bytes(6))
    whole = frame(0, 0, WIDTH, HEIGHT, 0, vp8)
    for flags in (0x02, 0x12, 0x2E):
        yield f"webp animation, flags {flags:#x}", riff(head(flags), anim, whole, whole)
        yield f"webp animation of alpha, flags {flags:#x}", riff(head(flags), anim, frame(0, 0, WIDTH, HEIGHT, 0, part(b"ALPH", alpha[b"ALPH"]), part(b"VP8 ", alpha[b"VP8 "])))
        yield f"webp animation of lossless alpha, flags {flags:#x}", riff(head(flags), anim, frame(0, 0, WIDTH, HEIGHT, 0, part(b"VP8L", clear[b"VP8L"])))
        yield f"webp animation, frame inside, flags {flags:#x}", riff(head(flags, 40, 30), anim, frame(4, 6, WIDTH, HEIGHT, 0, vp8))
        yield f"webp animation, frame inside, blended, flags {flags:#x}", riff(head(flags, 40, 30), anim, frame(4, 6, WIDTH, HEIGHT, 2, part(b"VP8L", clear[b"VP8L"])))
    yield "webp animation without its flag", riff(head(0), anim, whole)
    yield "webp animation without ANIM", riff(head(2), whole)
    yield "webp animation flag on a picture", riff(head(2), vp8)
    yield "webp animation, second frame cut", riff(head(2), anim, whole, whole[:40])
    yield "webp animation, frame outside", riff(head(2), anim, frame(10, 10, WIDTH, HEIGHT, 0, vp8))
    yield "webp animation, sizes differ", riff(head(2), anim, frame(0, 0, 9, 9, 0, vp8))


# JPEG, PNM, ICO and what is not read

def jpegs():
    def coded(mode="RGB", **how):
        buffer = io.BytesIO()
        picture(mode).save(buffer, "JPEG", **how)
        return buffer.getvalue()
    files = {"rgb": coded(), "grey": coded("L"), "cmyk": coded("CMYK"), "progressive": coded(progressive=True), "422": coded(subsampling=1),
             "420": coded(subsampling=2), "optimised": coded(optimize=True), "restarts": coded(restart_marker_rows=1)}
    for name, data in files.items():
        yield f"jpeg {name}", data
        for cut in (1, 2, 3, 4, 10):
            yield f"jpeg {name}, cut by {cut}", data[:-cut]
        yield f"jpeg {name}, data after it", data + noise(1, 50)
        yield f"jpeg {name}, end twice", data + b"\xff\xd9"
        yield f"jpeg {name}, zeros for its end", data[:-2] + b"\0\0"
    plain = files["rgb"]
    yield "jpeg garbage before", b"garbage" + plain
    yield "jpeg zero before", b"\0" + plain
    yield "jpeg fill bytes", plain[:2] + b"\xff\xff\xff" + plain[2:]
    yield "jpeg garbage between segments", plain[:20] + b"garbage" + plain[20:]
    yield "jpeg without jfif", plain[:2] + plain[20:]
    yield "jpeg adobe 0", plain[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0" + plain[20:]
    yield "jpeg adobe 1", plain[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1" + plain[20:]
    for kind in (0xE1, 0xE2, 0xED, 0xFE):
        yield f"jpeg segment {kind:x} of nonsense", plain[:2] + bytes([0xFF, kind, 0, 9]) + b"nonsens" + plain[2:]
    frame = plain.index(b"\xff\xc0")
    yield "jpeg 12 bits", plain[:frame + 4] + b"\x0c" + plain[frame + 5:]
    yield "jpeg no size", plain[:frame + 5] + bytes(4) + plain[frame + 9:]
    yield "jpeg taller than its data", plain[:frame + 5] + b"\0\x20" + plain[frame + 7:]
    yield "jpeg shorter than its data", plain[:frame + 5] + b"\0\x07" + plain[frame + 7:]
    yield "jpeg tables alone", plain[:frame] + b"\xff\xd9"


def others():
    rows = smooth(3)
    raw = b"".join(packed(rows, 8))
    grey = b"".join(packed(smooth(1), 8))
    size = f"{WIDTH} {HEIGHT}"
    words = lambda values: " ".join(str(value) for row in values for value in row)
    for name, data in {
        "ppm": f"P6\n{size}\n255\n".encode() + raw, "ppm with comments": f"P6 # one\n# two\n{size} # three\n255\n".encode() + raw,
        "ppm on one line": f"P6 {size} 255 ".encode() + raw, "ppm of 15": f"P6\n{size}\n15\n".encode() + bytes(v % 16 for v in raw),
        "ppm of 15, values beyond": f"P6\n{size}\n15\n".encode() + raw,
        "ppm of 1000": f"P6\n{size}\n1000\n".encode() + b"".join(struct.pack(">H", v * 3) for v in raw),
        "ppm of 65535": f"P6\n{size}\n65535\n".encode() + b"".join(struct.pack(">H", v * 257) for v in raw),
        "ppm of 0": f"P6\n{size}\n0\n".encode() + raw, "ppm of 65536": f"P6\n{size}\n65536\n".encode() + raw + raw,
        "ppm cut": f"P6\n{size}\n255\n".encode() + raw[:-1], "ppm long": f"P6\n{size}\n255\n".encode() + raw + b"more",
        "ppm of words": f"P3\n{size}\n255\n{words(rows)}\n".encode(), "ppm of words, one too few": f"P3\n{size}\n255\n{words(rows).rsplit(' ', 1)[0]}\n".encode(),
        "ppm of words, one too large": f"P3\n{size}\n99\n{words(rows)}\n".encode(), "ppm of words with comments": f"P3\n{size}\n255\n# a\n{words(rows)} # b\n".encode(),
        "pgm": f"P5\n{size}\n255\n".encode() + grey, "pgm of 7": f"P5\n{size}\n7\n".encode() + bytes(v % 8 for v in grey),
        "pgm of 65535": f"P5\n{size}\n65535\n".encode() + b"".join(struct.pack(">H", v * 3 - 40 if v > 20 else v) for v in grey),
        "pgm of 1023": f"P5\n{size}\n1023\n".encode() + b"".join(struct.pack(">H", v) for v in grey),
        "pgm of words": f"P2\n{size}\n255\n{words(smooth(1))}\n".encode(), "pgm of words of 1023": f"P2\n{size}\n1023\n{words(smooth(1))}\n".encode(),
        "pbm": f"P4\n{size}\n".encode() + b"".join(packed(smooth(1, bits=1), 1)),
        "pbm of words": f"P1\n{size}\n{words([[v % 2 for v in row] for row in smooth(1)])}\n".encode(),
        "pbm of words without blanks": f"P1\n{size}\n{words([[v % 2 for v in row] for row in smooth(1)]).replace(' ', '')}\n".encode(),
        "pbm of words with a 2": f"P1\n{size}\n{words([[v % 3 for v in row] for row in smooth(1)])}\n".encode(),
        "pfm": f"Pf\n{size}\n-1.0\n".encode() + b"".join(struct.pack("<f", v * 1.1) for v in grey),
        "pfm big": f"Pf\n{size}\n2.5\n".encode() + b"".join(struct.pack(">f", v * 1.1) for v in grey),
        "pfm no scale": f"Pf\n{size}\n0\n".encode() + b"".join(struct.pack(">f", v * 1.1) for v in grey),
        "pfm colour": f"PF\n{size}\n1.0\n".encode() + bytes(12 * WIDTH * HEIGHT), "pam": f"P7\nWIDTH {WIDTH}\nHEIGHT {HEIGHT}\nDEPTH 3\nMAXVAL 255\nENDHDR\n".encode() + raw,
        "ppm no width": b"P6\n0 9\n255\n", "ppm of nonsense": b"P6\nab cd\n255\n" + raw, "ppm empty": b"P6\n",
    }.items():
        yield f"pnm {name}", data
    def icon(*images, bits=32, colors=0):
        head, at = struct.pack("<HHH", 0, 1, len(images)), 6 + 16 * len(images)
        for (w, h, data) in images:
            head += struct.pack("<BBBBHHII", w, h, colors, 0, 1, bits, len(data), at)
            at += len(data)
        return head + b"".join(data for _, _, data in images)
    def dib(bits, mask=True):
        whole = bmp(bits)
        body = bytearray(whole[14:])
        body[8:12] = struct.pack("<i", 2 * HEIGHT)
        return bytes(body) + (noise(4, (WIDTH + 31) // 32 * 4 * HEIGHT) if mask else b"")
    yield "ico png", icon((WIDTH, HEIGHT, png(6)))
    yield "ico png without alpha", icon((WIDTH, HEIGHT, png(2)))
    yield "ico png of other size", icon((99, 99, png(6)))
    for bits in (1, 4, 8, 24, 32):
        yield f"ico bmp {bits}", icon((WIDTH, HEIGHT, dib(bits)), bits=bits)
        yield f"ico bmp {bits}, no bits said", icon((WIDTH, HEIGHT, dib(bits)), bits=0)
        yield f"ico bmp {bits} without mask", icon((WIDTH, HEIGHT, dib(bits, False)), bits=bits)
    yield "ico two", icon((9, 9, png(2)), (WIDTH, HEIGHT, png(6)))
    yield "ico none", icon()
    yield "ico cut", icon((WIDTH, HEIGHT, dib(32)))[:-400]
    for kind in ("ICO", "AVIF", "JPEG2000", "TGA", "PCX", "SGI", "DDS", "QOI"):
        buffer = io.BytesIO()
        try:
            picture("RGBA" if kind != "PCX" else "RGB").save(buffer, kind)
            yield f"{kind} by pillow", buffer.getvalue()
        except (OSError, ValueError, KeyError):
            pass


def variants():
    for kind in (pngs, gifs, bmps, tiffs, webps, jpegs, others):
        yield from kind()


def judged(data):
    """What Pillow makes of a file."""
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = 10**9
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        whole = image.convert("RGB")
        return {"size": list(image.size), "rgb": digest(whole), "fitted": digest(fitted(image))}
    except Exception as error:
        # Without the address of the file object, which is another one each time.
        words = re.sub(r" <_io\.BytesIO[^>]*>", "", str(error))
        return {"refused": f"{type(error).__name__}: {words}"[:120]}


def judged_without_simd():
    """Of all variants. libjpeg-turbo reads its environment once, so in another process."""
    command = [sys.executable, __file__, "--judge-all"]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=dict(os.environ, JSIMD_FORCENONE="1"))
    return [json.loads(line) for line in run.stdout.splitlines()]


def fitted(image):
    """Resize of the short side to FITTED, bicubic; centre crop; RGB: OpenCLIP's transform up to ToTensor."""
    width, height = image.size
    long = int(FITTED * max(width, height) / min(width, height))
    to = (FITTED, long) if width <= height else (long, FITTED)
    if to != image.size:
        image = image.resize(to, Image.Resampling.BICUBIC)
    left, top = round((to[0] - FITTED) / 2), round((to[1] - FITTED) / 2)
    return image.crop((left, top, left + FITTED, top + FITTED)).convert("RGB")


def digest(image):
    return hashlib.sha256(image.tobytes()).hexdigest()[:24]


def mutated(rng, data):
    data = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 120))
        way = rng.randrange(6)
        if way == 0:
            data[at] = rng.randrange(256)
        elif way == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif way == 2:
            del data[at:at + rng.randrange(1, 20)]
        elif way == 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 12))
        elif way == 4:
            data[at:at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0"])
        else:
            del data[max(at, 8):]
        if len(data) < 4:
            break
    return bytes(data)


def main():
    if sys.argv[1:2] == ["--judge"]:
        for line in sys.stdin:
            path = line.rstrip("\n")
            print(json.dumps({"path": path, **judged(Path(path).read_bytes())}), flush=True)
        return
    if sys.argv[1:2] == ["--judge-all"]:
        for data in dict(variants()).values():
            print(json.dumps(judged(data)))
        return
    if sys.argv[1:2] == ["--mutate"]:
        count, folder = int(sys.argv[2]), Path(sys.argv[3])
        folder.mkdir(parents=True, exist_ok=True)
        known = list(variants())
        for n in range(count):
            name, data = known[n % len(known)]
            (folder / f"{n:05}_{name.split()[0]}").write_bytes(mutated(random.Random(n), data))
        return
    out = Path(__file__).parent.parent / "tests/fixtures/variants.jsonl.zlib"
    known = dict(variants())
    entries = [{"name": name, "bytes": data.hex(), **judged(data)} for name, data in known.items()]
    for entry, other in zip(entries, judged_without_simd(), strict=True):
        if any(entry.get(key) != other.get(key) for key in ("rgb", "fitted")):
            entry["without_simd"] = other
    lines = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries)
    # Bytes in hex, not in base64, so that what files share is packed once.
    out.write_bytes(struct.pack("<I", len(lines)) + zlib.compress(lines.encode(), 9))
    print(f"{len(known)} variants, {sum('rgb' in entry for entry in entries)} of which Pillow opens; {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
