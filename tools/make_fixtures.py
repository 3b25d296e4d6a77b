"""Golden fixtures made by OpenCLIP itself: usage make_fixtures.py [pixels|tokens|vectors ...], all without arguments.

Run in an environment with tools/requirements-fixtures.txt. Writes under tests/fixtures:

- pictures/NAME.EXT: small pictures of every format and mode that PIL opens, made from one seeded painting.
- pixels.jsonl: one line per picture and configuration: {"picture", "config", "sha256"}, and "orientation" where it is
  applied (ImageOps.exif_transpose) before, and "sha256_without_simd" for damaged JPEGs, of which libjpeg-turbo makes
  something else where it is built or told to do without SIMD. `config` is a preprocess_cfg.json; `sha256` is over the rows of the 8-bit RGB
  picture that OpenCLIP's eval transform has just before ToTensor.
- normalised.json: a few values of the final tensor.
- tokens.jsonl: {"text", "ids"}, ids without padding, by open_clip.get_tokenizer('ViT-B-32'), on Python 3.11.
- demo_vectors.json: vectors of the demo model under demo/model for pictures and names of demo/catalog.
"""
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageOps, features

import jpeg_writer

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = ROOT / 'tests' / 'fixtures'
PICTURES = FIXTURES / 'pictures'
DEMO = ROOT / 'demo'

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def config(size=96, **keys):
    return dict(dict(size=size, mode='RGB', mean=MEAN, std=STD, interpolation='bicubic', resize_mode='shortest', fill_color=0), **keys)


DEFAULT = config()
WHITE = config(background=[255, 255, 255])
TINT = config(background=[10, 120, 240])


def transform(cfg):
    """open_clip's eval transform, without its last two steps (ToTensor, Normalize), after our background."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    cfg = dict(cfg)
    background = cfg.pop('background', None)
    steps = image_transform_v2(PreprocessCfg(**cfg), is_train=False).transforms

    def compose(im):
        if background is None:
            return im
        below = Image.new('RGBA', im.size, tuple(background) + (255,))
        return Image.alpha_composite(below, im.convert('RGBA')).convert('RGB')

    def pixels(im):
        im = compose(im)
        for step in steps[:-2]:
            im = step(im)
        return im

    def tensor(im):
        im = pixels(im)
        for step in steps[-2:]:
            im = step(im)
        return im

    return pixels, tensor


def painting(width, height, seed=7):
    """Gradients, hard edges, fine texture and saturated colours: what resamplers and chroma get wrong."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    a = np.stack([255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1), 127 + 120 * np.sin(x / 5 + y / 9)], -1)
    a += rng.normal(0, 12, a.shape)
    im = Image.fromarray(a.clip(0, 255).astype(np.uint8))
    d = ImageDraw.Draw(im)
    d.ellipse([width * .15, height * .2, width * .6, height * .7], fill=(230, 20, 40), outline=(255, 255, 0))
    d.rectangle([width * .5, height * .55, width * .9, height * .95], fill=(0, 60, 220))
    for i in range(0, width, 6):
        d.line([i, 0, width - i, height], fill=(255, 255, 255) if i % 12 else (0, 0, 0))
    return im


def alpha(width, height):
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    a = 255 * (0.5 + 0.6 * np.sin(x / 11) * np.cos(y / 7))
    return Image.fromarray(a.clip(0, 255).astype(np.uint8))


def with_alpha(width, height):
    im = painting(width, height).convert('RGBA')
    im.putalpha(alpha(width, height))
    return im


def exif_of(number):
    exif = Image.Exif()
    exif[0x112] = number
    return exif


def chunk(kind, body):
    import zlib
    return len(body).to_bytes(4, 'big') + kind + body + zlib.crc32(kind + body).to_bytes(4, 'big')


def png(width, height, depth, color, rows, extra=b'', interlaced=False):
    """A PNG of any depth and colour type, which PIL cannot write: rows are packed bytes without filter bytes."""
    import zlib
    head = width.to_bytes(4, 'big') + height.to_bytes(4, 'big') + bytes([depth, color, 0, 0, int(interlaced)])
    data = b''.join(b'\0' + row for row in rows)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + extra + chunk(b'IDAT', zlib.compress(data, 9)) + chunk(b'IEND', b'')


def tiff16(values, photometric):
    """An uncompressed TIFF of 16-bit samples [height, width, channels]; PIL writes only grey ones."""
    height, width, channels = values.shape
    data = values.astype('<u2').tobytes()
    depths_at = 8 + 2 + 10 * 12 + 4
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, depths_at if channels > 2 else 16), (259, 3, 1, 1), (262, 3, 1, photometric),
            (273, 4, 1, depths_at + 6), (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1)]
    entries = b''.join(t.to_bytes(2, 'little') + k.to_bytes(2, 'little') + n.to_bytes(4, 'little') + v.to_bytes(4, 'little') for t, k, n, v in tags)
    return b'II*\0\x08\0\0\0' + len(tags).to_bytes(2, 'little') + entries + bytes(4) + b'\x10\0' * 3 + data


def packed(values, depth):
    """Rows of `depth`-bit samples, first sample in the high bits."""
    bits = ((values[..., None] >> np.arange(depth - 1, -1, -1)) & 1).reshape(values.shape[0], -1)
    return [np.packbits(row).tobytes() for row in bits.astype(np.uint8)]


def adam7(values):
    """8-bit samples [height, width, channels] as the rows of the seven passes."""
    for y0, x0, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        part = values[y0::dy, x0::dx]
        if part.size:
            yield from (row.tobytes() for row in part)


def make_pictures():
    files = {}

    def save(name, im, fmt, **keys):
        b = io.BytesIO()
        im.save(b, fmt, **keys)
        files[name] = b.getvalue()

    land, port, odd = painting(200, 133), painting(90, 161, 8), painting(101, 77, 9)
    save('baseline_420.jpg', land, 'JPEG', quality=85, subsampling=2)
    save('baseline_422.jpg', land, 'JPEG', quality=85, subsampling=1)
    save('baseline_444.jpg', land, 'JPEG', quality=92, subsampling=0)
    save('progressive_420.jpg', port, 'JPEG', quality=80, subsampling=2, progressive=True)
    save('progressive_444.jpg', port, 'JPEG', quality=80, subsampling=0, progressive=True)
    save('odd_420.jpg', odd, 'JPEG', quality=75, subsampling=2)
    save('restart_420.jpg', land, 'JPEG', quality=75, subsampling=2, restart_marker_blocks=3)
    save('large_420.jpg', painting(400, 267, 3), 'JPEG', quality=70, subsampling=2)
    save('grey.jpg', land.convert('L'), 'JPEG', quality=85)
    save('rgb.jpg', land, 'JPEG', quality=85, keep_rgb=True)
    save('cmyk_adobe.jpg', land.convert('CMYK'), 'JPEG', quality=85)
    # The same without its Adobe marker: PIL inverts it all the same.
    adobe = files['cmyk_adobe.jpg']
    at = adobe.index(b'\xff\xee')
    files['cmyk_plain.jpg'] = adobe[:at] + adobe[at + 2 + int.from_bytes(adobe[at + 2:at + 4], 'big'):]
    # The same data declared as YCCK (transform 2).
    at = adobe.index(b'Adobe')
    files['ycck.jpg'] = adobe[:at + 11] + b'\x02' + adobe[at + 12:]
    # Large enough to be cut, both ways.
    save('tall_420.jpg', painting(211, 503, 4), 'JPEG', quality=60, subsampling=2)
    save('wide_422.jpg', painting(497, 150, 5), 'JPEG', quality=60, subsampling=1)
    save('extreme_420.jpg', painting(900, 17, 6), 'JPEG', quality=60, subsampling=2)
    save('progressive_large.jpg', painting(320, 203, 6), 'JPEG', quality=60, subsampling=2, progressive=True)
    save('progressive_grey.jpg', odd.convert('L'), 'JPEG', quality=80, progressive=True)
    save('tiny_420.jpg', painting(5, 3), 'JPEG', quality=85, subsampling=2)
    save('one_row_420.jpg', painting(90, 1), 'JPEG', quality=85, subsampling=2)
    save('one_column_420.jpg', painting(1, 90), 'JPEG', quality=85, subsampling=2)
    save('one_pixel.jpg', painting(1, 1), 'JPEG', quality=85)
    save('lowest_quality.jpg', land, 'JPEG', quality=1, subsampling=2)
    save('best_quality.jpg', odd, 'JPEG', quality=100, subsampling=0)
    # What PIL reads and does not write.
    ycc = [np.asarray(plane) for plane in painting(229, 151, 2).convert('YCbCr').split()]
    for name, sampling in (('440', (1, 2)), ('411', (4, 1)), ('441', (1, 4)), ('410', (4, 2))):
        files[f'baseline_{name}.jpg'] = jpeg_writer.encode(ycc, [sampling, (1, 1), (1, 1)])
    files['sampling_mixed.jpg'] = jpeg_writer.encode(ycc, [(2, 2), (2, 1), (1, 2)])
    files['sampling_444_as_22.jpg'] = jpeg_writer.encode(ycc, [(2, 1), (2, 1), (2, 1)])
    files['sampling_422_as_22.jpg'] = jpeg_writer.encode(ycc, [(2, 2), (1, 2), (1, 2)])
    files['grey_as_22.jpg'] = jpeg_writer.encode(ycc[:1], [(2, 2)])
    files['ids_rgb.jpg'] = jpeg_writer.encode([np.asarray(p) for p in odd.split()], [(1, 1)] * 3, ids=b'RGB')
    files['adobe_rgb.jpg'] = jpeg_writer.encode([np.asarray(p) for p in odd.split()], [(1, 1)] * 3, adobe=0)
    files['adobe_ycc.jpg'] = jpeg_writer.encode(ycc, [(2, 2), (1, 1), (1, 1)], adobe=1)
    cmyk = [255 - np.asarray(p) for p in painting(229, 151, 2).convert('CMYK').split()]
    files['cmyk_420.jpg'] = jpeg_writer.encode(cmyk, [(2, 2), (1, 1), (1, 1), (2, 2)], adobe=0)
    files['ycck_420.jpg'] = jpeg_writer.encode(cmyk, [(2, 2), (1, 1), (1, 1), (2, 2)], adobe=2)
    # Damaged data is decoded as far as it goes, by PIL too, as long as the file has an end.
    damaged = bytearray(files['large_420.jpg'])
    damaged[9000:9040] = bytes(range(40))
    files['damaged_420.jpg'] = bytes(damaged)
    # Orientation: OpenCLIP ignores it.
    for number in range(1, 9):
        save(f'exif_{number}.jpg', painting(150, 98, number), 'JPEG', quality=70, subsampling=2, exif=exif_of(number))
    save('exif_6.png', painting(40, 31), 'PNG', exif=exif_of(6))
    save('exif_8.webp', painting(60, 31), 'WEBP', quality=70, exif=exif_of(8))

    save('rgb.png', land, 'PNG', optimize=True)
    save('portrait.png', port, 'PNG', optimize=True)
    save('odd.png', odd, 'PNG', optimize=True)
    # Tall enough for Pillow 13 to run the vertical pass first.
    tall = painting(110, 340, 5)
    save('tall.png', tall.quantize(24).convert('RGB'), 'PNG', optimize=True)
    save('exact.png', painting(96, 96), 'PNG', optimize=True)
    save('one_side_exact.png', painting(120, 96), 'PNG', optimize=True)
    save('small.png', painting(40, 30), 'PNG', optimize=True)
    save('one_pixel.png', painting(1, 1), 'PNG')
    save('one_row.png', painting(60, 1), 'PNG')
    save('one_column.png', painting(1, 60), 'PNG')
    save('rgba.png', with_alpha(150, 110), 'PNG', optimize=True)
    save('rgba_exact.png', with_alpha(96, 96), 'PNG', optimize=True)
    save('grey.png', land.convert('L'), 'PNG', optimize=True)
    save('grey_alpha.png', Image.merge('LA', [painting(150, 110).convert('L'), alpha(150, 110)]), 'PNG', optimize=True)
    save('bilevel.png', land.convert('1'), 'PNG')
    save('extreme_wide.png', painting(700, 9).quantize(16).convert('RGB'), 'PNG', optimize=True)
    save('extreme_tall.png', painting(9, 700).quantize(16).convert('RGB'), 'PNG', optimize=True)
    save('tall_rgba.png', with_alpha(31, 150), 'PNG', optimize=True)
    save('one_pixel_rgba.png', with_alpha(1, 1), 'PNG')
    save('one_row_palette.png', painting(60, 1).quantize(16), 'PNG', transparency=3)
    save('palette_2.png', land.quantize(4), 'PNG', bits=2)
    quantized = land.quantize(32)
    save('palette.png', quantized, 'PNG', optimize=True)
    save('palette_16.png', land.quantize(16), 'PNG', bits=4)
    save('palette_one_clear.png', quantized, 'PNG', optimize=True, transparency=5)
    save('palette_alphas.png', quantized, 'PNG', optimize=True, transparency=bytes(range(0, 256, 8)))
    save('rgb_key.png', painting(80, 60).quantize(8).convert('RGB'), 'PNG', transparency=tuple(painting(80, 60).quantize(8).convert('RGB').getpixel((40, 20))))
    grey = np.asarray(land.convert('L'))
    save('grey_key.png', Image.fromarray(grey), 'PNG', optimize=True, transparency=int(grey[60, 100]))
    height, width = grey.shape
    wide = grey.astype(np.uint16)
    files['grey16.png'] = png(width, height, 16, 0, [(row * 257).astype('>u2').tobytes() for row in wide])
    files['grey16_dark.png'] = png(width, height, 16, 0, [(row + row % 7).astype('>u2').tobytes() for row in wide])
    files['grey16_tall.png'] = png(110, 340, 16, 0, [row.astype('>u2').tobytes() for row in np.asarray(tall.convert('L')).astype(np.uint16) // 16 * 19])
    files['grey4.png'] = png(width, height, 4, 0, packed(grey >> 4, 4))
    files['grey2.png'] = png(width, height, 2, 0, packed(grey >> 6, 2))
    rgb = np.asarray(odd)
    noise = np.random.default_rng(1).integers(0, 256, rgb.shape, dtype=np.uint16)
    files['rgb16.png'] = png(odd.width, odd.height, 16, 2, [(row).astype('>u2').tobytes() for row in rgb.astype(np.uint16) * 256 + noise])
    deep = rgb.astype(np.uint16) * 256 + noise
    opacity = np.asarray(alpha(odd.width, odd.height)).astype(np.uint16)[..., None] * 257
    files['rgba16.png'] = png(odd.width, odd.height, 16, 6, [row.astype('>u2').tobytes() for row in np.concatenate([deep, opacity], -1)])
    files['grey_alpha16.png'] = png(odd.width, odd.height, 16, 4, [row.astype('>u2').tobytes() for row in np.concatenate([deep[..., :1], opacity], -1)])
    files['interlaced_rgba.png'] = png(odd.width, odd.height, 8, 6, list(adam7(np.asarray(with_alpha(odd.width, odd.height)))), interlaced=True)
    files['interlaced.png'] = png(odd.width, odd.height, 8, 2, list(adam7(rgb)), interlaced=True)

    save('lossy.webp', land, 'WEBP', quality=80)
    save('lossy_odd.webp', odd, 'WEBP', quality=60)
    save('lossy_alpha.webp', with_alpha(150, 110), 'WEBP', quality=80)
    save('lossless.webp', odd, 'WEBP', lossless=True)
    save('lossless_alpha.webp', with_alpha(90, 70), 'WEBP', lossless=True)
    save('lossy_large.webp', painting(300, 401, 11), 'WEBP', quality=40)
    save('lossy_best.webp', odd, 'WEBP', quality=100, method=6)
    save('lossy_one_pixel.webp', painting(1, 1), 'WEBP', quality=80)
    save('lossy_row.webp', painting(61, 1), 'WEBP', quality=80)
    save('lossless_column.webp', painting(1, 61), 'WEBP', lossless=True)
    save('animated.webp', odd, 'WEBP', lossless=True, save_all=True, append_images=[odd.transpose(0)])

    save('plain.gif', land.quantize(64), 'GIF')
    save('clear.gif', land.quantize(64), 'GIF', transparency=3)
    save('animated.gif', odd.quantize(16), 'GIF', save_all=True, append_images=[odd.transpose(0).quantize(16)])
    ramp = land.convert('L')
    save('grey_ramp.gif', ramp, 'GIF', optimize=False)
    # A first frame smaller than the screen.
    inner = bytearray(files['plain.gif'])
    inner[6:10] = (230).to_bytes(2, 'little') + (160).to_bytes(2, 'little')
    at = inner.index(b'\x2c\0\0\0\0')
    inner[at + 1:at + 5] = (20).to_bytes(2, 'little') + (10).to_bytes(2, 'little')
    files['inner_frame.gif'] = bytes(inner)

    save('rgb.bmp', painting(60, 45), 'BMP')
    save('rgba.bmp', with_alpha(31, 45), 'BMP')
    save('palette_16.bmp', painting(61, 45).quantize(16), 'BMP')
    save('odd_rgb.bmp', painting(45, 61), 'BMP')
    save('palette.bmp', painting(101, 45).quantize(200), 'BMP')
    save('grey.bmp', painting(61, 45).convert('L'), 'BMP')
    save('bilevel.bmp', painting(61, 45).convert('1'), 'BMP')

    small = painting(61, 45)
    save('rgb.tif', small, 'TIFF', compression='tiff_lzw')
    save('rgba.tif', with_alpha(61, 45), 'TIFF', compression='tiff_adobe_deflate')
    save('grey.tif', small.convert('L'), 'TIFF', compression='packbits')
    save('bilevel.tif', small.convert('1'), 'TIFF')
    save('cmyk.tif', small.convert('CMYK'), 'TIFF', compression='tiff_lzw')
    save('grey_alpha.tif', Image.merge('LA', [small.convert('L'), alpha(61, 45)]), 'TIFF', compression='tiff_lzw')
    save('rgb_deflate.tif', small, 'TIFF', compression='tiff_adobe_deflate')
    save('cmyk_deflate.tif', small.convert('CMYK'), 'TIFF', compression='tiff_adobe_deflate')
    save('bilevel_lzw.tif', small.convert('1'), 'TIFF', compression='tiff_lzw')
    for number in (3, 6, 7):
        save(f'orientation_{number}.tif', small, 'TIFF', compression='tiff_lzw', tiffinfo={0x112: number})
    files['rgb16.tif'] = tiff16(np.asarray(small).astype(np.uint16) * 257, 2)
    files['grey16_deep.tif'] = tiff16(np.asarray(small.convert('L')).astype(np.uint16)[..., None] * 257, 1)
    save('grey16.tif', Image.fromarray(np.asarray(small.convert('L')).astype(np.uint16) * 3), 'TIFF')
    return files


def expectation(im):
    assert im.mode == 'RGB', im.mode
    return hashlib.sha256(im.tobytes()).hexdigest()


def decoded_without_simd(data):
    """What Pillow's libjpeg-turbo makes of a JPEG by its C code alone: its environment is read once, so in another process."""
    decode = 'import sys; from PIL import Image; Image.open(sys.stdin.buffer).save(sys.stdout.buffer, "PNG")'
    run = subprocess.run([sys.executable, '-c', decode], input=data, stdout=subprocess.PIPE, check=True,
                         env=dict(os.environ, JSIMD_FORCENONE='1'))
    return Image.open(io.BytesIO(run.stdout))


SEVERAL_SIZES = ('large_420.jpg', 'tall_420.jpg', 'wide_422.jpg', 'extreme_420.jpg', 'progressive_large.jpg', 'baseline_440.jpg', 'baseline_411.jpg',
                 'cmyk_420.jpg', 'grey.jpg', 'lossy_large.webp', 'extreme_tall.png', 'tall_rgba.png', 'rgb16.tif')


def cases(name):
    """The configurations that a picture is tried with."""
    yield DEFAULT
    if name in SEVERAL_SIZES:
        yield config(size=224)
        yield config(size=64, resize_mode='squash')
        yield config(size=40, interpolation='bilinear')
        yield config(size=48, resize_mode='longest')
        yield config(size=[32, 120])
    if any(word in name for word in ('alpha', 'rgba', 'key', 'clear', 'palette', 'bilevel', 'grey16', 'cmyk.', 'inner', 'animated')):
        yield WHITE
        yield TINT
    if name in ('rgb.png', 'portrait.png', 'rgba.png', 'palette.png', 'grey16.png', 'cmyk.tif', 'grey_alpha.png', 'bilevel.png', 'small.png', 'one_row.png'):
        yield config(interpolation='bilinear')
        yield config(resize_mode='longest', fill_color=17)
        yield config(resize_mode='squash', size=[64, 112])
    if name in ('rgb.png', 'portrait.png', 'small.png', 'rgba.png'):
        yield config(size=224)
        yield config(size=[80, 56])
        yield config(size=[56, 80], interpolation='bilinear')
        yield config(size=[80, 56], resize_mode='longest', background=[255, 255, 255])
        yield config(interpolation='random', resize_mode='squash')


def make_pixels():
    PICTURES.mkdir(parents=True, exist_ok=True)
    files = make_pictures()
    for old in PICTURES.iterdir():
        old.unlink()
    lines = []
    for name, data in files.items():
        (PICTURES / name).write_bytes(data)
        for cfg in cases(name):
            im = Image.open(io.BytesIO(data))
            lines.append(dict(picture=name, config=cfg, sha256=expectation(transform(cfg)[0](im))))
            if name.startswith('damaged') and name.endswith('.jpg'):
                lines[-1]['sha256_without_simd'] = expectation(transform(cfg)[0](decoded_without_simd(data)))
        if name.startswith('exif'):
            im = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
            for cfg in (DEFAULT, config(size=[40, 64])):
                lines.append(dict(picture=name, config=cfg, orientation='apply', sha256=expectation(transform(cfg)[0](im))))
    write_lines('pixels.jsonl', lines)
    values = []
    for cfg in (DEFAULT, config(mean=[.5] * 3, std=[.5] * 3), WHITE):
        tensor = transform(cfg)[1](Image.open(PICTURES / 'rgba.png')).numpy().ravel()
        at = list(range(0, tensor.size, 997))
        values.append(dict(picture='rgba.png', config=cfg, step=997, bits=[int(v) for v in tensor[at].view(np.uint32)]))
    (FIXTURES / 'normalised.json').write_text(json.dumps(values) + '\n')
    print(len(files), 'pictures,', len(lines), 'cases; libjpeg-turbo', features.version('libjpeg_turbo'), 'webp', features.version('webp'))


def write_lines(name, lines):
    with open(FIXTURES / name, 'w') as f:
        for line in lines:
            f.write(json.dumps(line, ensure_ascii=False) + '\n')


def main():
    FIXTURES.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:] or ['pixels', 'tokens', 'vectors']
    if 'pixels' in wanted:
        make_pixels()
    if 'tokens' in wanted:
        from fixture_generated import generated
        from fixture_texts import TEXTS
        make_tokens([*TEXTS, *generated(seed=3, count=5200)])
    if 'vectors' in wanted:
        make_vectors()


def make_tokens(texts):
    import open_clip
    tokenizer = open_clip.get_tokenizer('ViT-B-32')
    lines = []
    for text in dict.fromkeys(texts):
        ids = tokenizer([text])[0].tolist()
        # Padding is 0, which is also a token (`!`): the real end is the last non-zero, the end-of-text token.
        end = max(i for i, t in enumerate(ids) if t != 0) + 1
        assert ids[end - 1] == tokenizer.eot_token_id
        lines.append(dict(text=text, ids=ids[:end]))
    write_lines('tokens.jsonl', lines)
    print(len(lines), 'texts')


def make_vectors():
    import onnxruntime
    import open_clip
    tokenizer = open_clip.get_tokenizer('ViT-B-32')
    cfg = json.loads((DEMO / 'model' / 'visual' / 'preprocess_cfg.json').read_text())
    tensor = transform(cfg)[1]
    tower = {t: onnxruntime.InferenceSession(DEMO / 'model' / t / 'model.onnx') for t in ('visual', 'textual')}
    catalog = [json.loads(line) for line in open(DEMO / 'catalog' / 'catalog.jsonl')]
    lines = []
    for item in catalog[5::len(catalog) // 12][:12]:
        pixels = tensor(Image.open(DEMO / 'catalog' / item['image'])).numpy()[None]
        ids = tokenizer([item['text']])
        ids = ids[:, :int(ids[0].argmax()) + 1].numpy()
        for key, run, x in (('image', 'visual', pixels), ('text', 'textual', ids)):
            (vector,) = tower[run].run(None, {tower[run].get_inputs()[0].name: x})[0]
            lines.append({key: item[key], 'embedding': [float(f'{v:.8f}') for v in vector]})
    (FIXTURES / 'demo_vectors.json').write_text('[\n' + ',\n'.join(json.dumps(line, ensure_ascii=False) for line in lines) + '\n]\n')
    print(len(lines), 'vectors')


if __name__ == '__main__':
    main()
