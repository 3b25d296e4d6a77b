"""A baseline JPEG encoder for what PIL does not write: any sampling factors, any component ids, no or any marker."""
import io

import numpy as np
from PIL import Image

ZIGZAG = sorted(range(64), key=lambda n: (n // 8 + n % 8, n // 8 if (n // 8 + n % 8) % 2 else n % 8))
QUANTISATION = np.full((8, 8), 6) + 2 * np.add.outer(np.arange(8), np.arange(8))


def huffman_segments():
    """The tables of Annex K, as PIL writes them, and their codes: {(class, table): {symbol: (code, length)}}."""
    data = io.BytesIO()
    Image.new('RGB', (16, 16)).save(data, 'JPEG')
    data, at, segments, codes = data.getvalue(), 2, b'', {}
    while data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2:at + 4], 'big')
        if data[at + 1] == 0xC4:
            segments += data[at:at + 2 + length]
            body = data[at + 4:at + 2 + length]
            while body:
                counts, symbols, code, table = body[1:17], iter(body[17:17 + sum(body[1:17])]), 0, {}
                for bits, count in enumerate(counts, 1):
                    for _ in range(count):
                        table[next(symbols)] = (code, bits)
                        code += 1
                    code <<= 1
                codes[body[0] >> 4, body[0] & 15] = table
                body = body[17 + sum(counts):]
        at += 2 + length
    return segments, codes


def encode(planes, sampling, ids=(1, 2, 3, 4), adobe=None):
    """`planes`: full-size components [height, width]; `sampling`: (across, down) of each. `adobe`: the transform to name."""
    height, width = planes[0].shape
    across, down = max(s[0] for s in sampling), max(s[1] for s in sampling)
    mcus = -(-width // (8 * across)), -(-height // (8 * down))
    grid = np.arange(8)
    dct = np.cos(np.outer(grid, 2 * grid + 1) * np.pi / 16) * np.where(grid, 0.5, np.sqrt(0.125))[:, None]
    blocks = []
    for plane, (h, v) in zip(planes, sampling):
        padded = np.pad(plane.astype(float), ((0, mcus[1] * 8 * down - height), (0, mcus[0] * 8 * across - width)), 'edge')
        small = padded.reshape(mcus[1] * 8 * v, down // v, mcus[0] * 8 * h, across // h).mean((1, 3)) - 128
        tiles = small.reshape(mcus[1] * v, 8, mcus[0] * h, 8).transpose(0, 2, 1, 3)
        blocks.append(np.rint(dct @ tiles @ dct.T / QUANTISATION).astype(int).reshape(*tiles.shape[:2], 64)[..., ZIGZAG])
    segments, codes = huffman_segments()
    bits = []

    def put(table, symbol, value=None, size=0):
        code, length = table[symbol]
        bits.append(format(code, f'0{length}b'))
        if size:
            bits.append(format(value if value > 0 else value + (1 << size) - 1, f'0{size}b'))

    before = [0] * len(planes)
    for row, column in np.ndindex(mcus[1], mcus[0]):
        for c, (h, v) in enumerate(sampling):
            tables = codes[0, min(c, 1)], codes[1, min(c, 1)]
            for y, x in np.ndindex(v, h):
                block = blocks[c][row * v + y, column * h + x]
                step, before[c], run = int(block[0]) - before[c], int(block[0]), 0
                put(tables[0], abs(step).bit_length(), step, abs(step).bit_length())
                last = max(np.flatnonzero(block), default=0)
                for value in block[1:last + 1].tolist():
                    if value == 0:
                        run += 1
                        continue
                    for _ in range(run // 16):
                        put(tables[1], 0xF0)
                    size = abs(value).bit_length()
                    put(tables[1], run % 16 << 4 | size, value, size)
                    run = 0
                if last < 63:
                    put(tables[1], 0)
    bits = ''.join(bits)
    bits += '1' * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, 'big').replace(b'\xff', b'\xff\0')

    def segment(kind, body):
        return bytes([0xFF, kind]) + (len(body) + 2).to_bytes(2, 'big') + body

    frame = b''.join(bytes([i, h << 4 | v, 0]) for i, (h, v) in zip(ids, sampling))
    tables = b''.join(bytes([i, 0x11 * min(c, 1)]) for c, (i, _) in enumerate(zip(ids, planes)))
    marker = b'' if adobe is None else segment(0xEE, b'Adobe\0\x64\0\0\0\0' + bytes([adobe]))
    return (b'\xff\xd8' + marker + segment(0xDB, b'\0' + bytes(QUANTISATION.ravel()[ZIGZAG].tolist()))
            + segment(0xC0, b'\x08' + height.to_bytes(2, 'big') + width.to_bytes(2, 'big') + bytes([len(planes)]) + frame)
            + segments + segment(0xDA, bytes([len(planes)]) + tables + b'\0\x3f\0') + scan + b'\xff\xd9')
