"""Seeded texts for tests/fixtures/tokens.jsonl: what the handwritten ones of fixture_texts.py do not think of.

generated(seed, count) yields texts glued together from parts: real writing in many scripts, mojibake of it in every
encoding that ftfy knows and some that it does not, entities, characters of chosen blocks, controls, special tokens. The
characters come from the tables of Python, ftfy and html, so that the texts are the same only for the same versions.
"""
import html
import html.entities
import random
import re
import unicodedata

from ftfy import badness, chardata

REAL = '''Straße in München, schöne Grüße für Ödön|El niño comió piñata mañana por la tarde, ¿qué pasó?|Le café près de l'hôtel à Besançon: où êtes-vous, Noël?|São Paulo é à beira da ação, coração, às vezes àquele
Zażółć gęślą jaźń, Łódź|Příliš žluťoučký kůň úpěl ďábelské ódy|Árvíztűrő tükörfúrógép|Съешь же ещё этих мягких французских булок, да выпей чаю|Ξεσκεπάζω την ψυχοφθόρα βδελυγμία ΟΔΟΣ Σίσυφος|Pijamalı hasta yağız şoföre çabucak güvendi İSTANBUL ılık
Įlinkdama fechtuotojo špaga sublykčiojusi pragręžė apvalų arbūzą|Glāžšķūņa rūķīši dzērumā čiepj Baha koncertflīģeļu vākus|אבגד שלום עולם|مرحبا بالعالم كيف حالك|日本語の文章をテストする。カタカナ、ひらがな|中文分词测试,红色跑鞋|한국어 텍스트 예문입니다|हिन्दी में लिखा हुआ पाठ|தமிழ் மொழி
ภาษาไทยไม่มีช่องว่าง|tiếng Việt có dấu đẹp lắm|Þórður á Íslandi ætlar að fá sér öl|Blåbærsyltetøy på Ærø|Ça va? Œuvre d'art, cœur, œuf|“Curly” ‘quotes’ — em–en… • bullet™ ©2020 ®|😀👍🏽👩‍👩‍👧‍👦🏳️‍🌈 emoji ❤️|price €5 £10 ¥300 ¢ 20°C ±5 ×3 ½ µm|½ ¼ ² ³ ¹ № ∞ ≠ ≤ ≥ √ ∑ ∏ ∂|│┌┐┘├┤┬┼═║╔╗ ░▒▓█▄▀'''.replace('\n', '|').split('|')

ENCODINGS = ['latin-1', 'windows-1252', 'cp850', 'cp858', 'windows-1256', 'iso-8859-15', 'koi8-r', 'shift-jis', 'gbk'] + chardata.CHARMAP_ENCODINGS
ASSIGNABLE = [chr(i) for i in range(0x110000) if not 0xd800 <= i < 0xe000]
MOJIBAKE = sorted({c for e in chardata.CHARMAP_ENCODINGS for c in bytes(range(0x80, 0x100)).decode(e)} | {'\ufffd', '\x1a'})
SEQUENCES = {name: [c for c in MOJIBAKE + [' '] if re.match(f'[{members}]', c)] for name, members in chardata.UTF8_CLUES.items()}
# Once for each category that they are in, and what the special cases of the heuristic name.
BAD = [c for members in badness.MOJIBAKE_CATEGORIES.values() for c in MOJIBAKE if re.match(f'[{members}]', c)]
BAD_CASES = 'ÂÃÎÐ × ² ³ Ø Ù à ² √ ± ∂ † ≠ ® ≈ ° ‚Ä ì ‚ â ó à вЂ В Г Р С ГўВЂВ Ã\xa0 Â β€ ™ Ά Β Γ Ξ Ο ā€ Œ œ _ a Z 1 ? .'.split(' ') + ['Ã ', 'Â ']
ENTITIES = list(html.entities.html5)
CASED = [c for c in ASSIGNABLE if c.lower() != c or c.upper() != c]
UNASSIGNED = [c for c in ASSIGNABLE if unicodedata.category(c) == 'Cn']
MARKS = [c for c in ASSIGNABLE if unicodedata.combining(c)]
DECOMPOSED = [c for c in ASSIGNABLE if unicodedata.decomposition(c) and not unicodedata.decomposition(c).startswith('<')]
CONTROLS = [chr(i) for i in [*range(0x20), *range(0x7f, 0xa1)]] + list('\u1680\u180e\u2000\u2003\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202e\u202f\u205f\u2060\u206a\u206f\u3000\ufeff\ufff9\ufffb\ufffc\ufffd\u00ad\u061c')
REPLACED = [chr(i) for i in [*chardata.LIGATURES, *range(0xff00, 0xfff0)]] + list("ʼ‘’‚‛“”„‟′″ʻ`´'\"")
SPECIAL = ['<start_of_text>', '<end_of_text>', '<START_OF_TEXT>', '<ſtart_of_text>', '<|startoftext|>', '<|endoftext|>', '</w>', '<', '>', "'s", "'S", "'RE", "'LL", '’s', '’Ll', "'ſ", 'ʼs', "'d'", "''", '&lt;end_of_text&gt;', '\u0345', 'a\u0345']
SIGMAS = ['Σ', 'Σ', 'σ', 'ς', 'Α', 'a', '.', '\u0301', 'ʰ', 'ª', '1', ' ', '\u200d', "'", '·', '中', '\u0345', '-', '\u1c89', '\u10fc', 'ͺ', 'I', 'İ', '\U0001171e']
BLOCKS = [0, 0x80, 0x100, 0x180, 0x250, 0x300, 0x370, 0x400, 0x530, 0x590, 0x600, 0x900, 0xe00, 0x10a0, 0x1100, 0x1c80, 0x1e00, 0x1f00, 0x2000, 0x2070, 0x2100, 0x2150, 0x2500, 0x2c00, 0x3040, 0x4e00, 0xa640, 0xa720, 0xa7c0, 0xac00, 0xf900, 0xfb00, 0xfe00, 0xff00, 0x10400, 0x10d40, 0x11380, 0x16ea0, 0x1d400, 0x1e4e0, 0x1e900, 0x1f100, 0x1f600, 0xe0000]
SEPARATORS = ['', '', ' ', ' ', '\n', '. ']


def cesu8(c):
    """Surrogates encoded one by one."""
    return b''.join(c.encode('utf-16-be')[i:i + 2].decode('utf-16-be', 'surrogatepass').encode('utf-8', 'surrogatepass') for i in range(0, len(c.encode('utf-16-be')), 2))


class Texts:
    def __init__(self, seed):
        self.rng = random.Random(seed)

    def some(self, characters, most=6):
        return ''.join(self.rng.choice(characters) for _ in range(self.rng.randint(1, most)))

    def real(self):
        words = self.rng.choice(REAL).split()
        at = self.rng.randrange(len(words))
        return self.rng.choice([str, str, str, str.upper, str.title])(' '.join(words[at:at + self.rng.randint(1, 5)]))

    def mojibake(self, text):
        """Decoded in a wrong encoding, up to three times, with what else happens to such text on its way."""
        rng = self.rng
        for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
            data = b''.join(cesu8(c) for c in text) if rng.random() < .08 else text.encode()
            text = data.decode(rng.choice(ENCODINGS), rng.choice(['replace', 'replace', 'ignore']))
            old, new = rng.choice([('\xa0', ' '), ('\ufffd', '?'), ('\xad', ''), ('’', "'"), ('', '')])
            text = text.replace(old, new) if old and rng.random() < .3 else text
        return rng.choice([str] * 8 + [str.upper, str.lower])(text)

    def entity(self):
        rng = self.rng
        kind = rng.randrange(4)
        if kind == 0:
            name = rng.choice(ENTITIES)
            name = rng.choice([str, str, str.upper, str.lower, lambda n: n.rstrip(';'), lambda n: n[:rng.randint(1, len(n))]])(name)
            return '&' + name + rng.choice(['', '', '', 'a', '1', 'é', ' '])
        if kind == 1:
            code = rng.choice([rng.randint(0, 300), rng.randint(0, 0x11ffff), rng.randint(0x2000, 0x2100), rng.choice([0, 0xd, 0x80, 0x81, 0x85, 0xd800, 0x110000, 0xfffe, 0x1ffff, 0xfdd0, 59, 38, 35, 9999999999999])])
            digits = rng.choice([f'{code}', f'x{code:x}', f'X{code:X}', '0' * rng.randint(1, 25) + f'{code}'])
            return '&#' + digits + rng.choice([';', ';', ';', '', ' ', 'g;', 'B;'])
        if kind == 2:
            return html.escape(rng.choice(REAL)[:rng.randint(1, 20)])
        return '&' + 'amp;' * rng.randint(0, 4) + rng.choice(['amp', 'lt', 'gt', 'quot', '#39', 'nbsp', 'eacute', 'EACUTE', '#x26', 'semi']) + rng.choice([';', ';', ''])

    def sequence(self):
        """One UTF-8 sequence as an encoding shows it, whole or damaged."""
        rng = self.rng
        kind = rng.randrange(3)
        if kind == 0:
            name, more = rng.choice([('utf8_first_of_2', 1), ('utf8_first_of_3', 2), ('utf8_first_of_4', 3)])
            return rng.choice(SEQUENCES[name]) + ''.join(rng.choice(SEQUENCES['utf8_continuation']) for _ in range(more))
        encoding = rng.choice(chardata.CHARMAP_ENCODINGS)
        if kind == 1:
            c = rng.choice([chr(rng.randint(0x80, 0x7ff)), chr(rng.randint(0x800, 0xd7ff)), chr(rng.randint(0x2000, 0x20ff)), chr(rng.randint(0x10000, 0x10ffff)), rng.choice('àéèŠΠРñö’“”–—…€£\xa0')])
            data = bytearray(rng.choice([str.encode, str.encode, cesu8, lambda c: b'\xc0\x80' + c.encode()])(c))
            if rng.random() < .2:
                data[rng.randrange(len(data))] = rng.choice(b' \x1a?\xa0')
            return bytes(data[:-1] if rng.random() < .05 else data).decode(encoding)
        return bytes(rng.choice([rng.randint(0x80, 0xff), rng.randint(0xc0, 0xff), *b' \x1a\xa0\xc3\xed\xc0\n']) for _ in range(rng.randint(1, 5))).decode(encoding)

    def suspicious(self):
        return ''.join(self.rng.choice([lambda: self.rng.choice(MOJIBAKE), lambda: self.rng.choice(BAD), lambda: self.rng.choice(BAD_CASES), lambda: self.rng.choice('abzAZ 1_.'), self.sequence])() for _ in range(self.rng.randint(1, 8)))

    def block(self):
        first = self.rng.choice(BLOCKS)
        return ''.join(chr(first + self.rng.randrange(128)) for _ in range(self.rng.randint(1, 8)))

    def terminal(self):
        return '\x1b[' + ''.join(self.rng.choice('0123456789;;٣३') for _ in range(self.rng.randint(0, 5))) + self.rng.choice('mKHABJ m1é')

    def part(self):
        weighted = [
            (6, self.real), (14, lambda: self.mojibake(self.real())), (6, self.entity), (3, lambda: self.mojibake(self.entity())), (9, self.sequence), (9, self.suspicious),
            (4, lambda: self.some(MOJIBAKE)), (3, lambda: self.some(ASSIGNABLE)), (4, self.block), (3, lambda: self.some(CONTROLS, 3)), (3, lambda: self.some(REPLACED, 3)), (3, lambda: self.some(CASED, 4)),
            (1, lambda: self.some(UNASSIGNED, 2)), (3, lambda: self.some(MARKS, 3)), (2, lambda: self.some(DECOMPOSED, 3)), (3, lambda: self.some(SIGMAS, 8)), (3, lambda: self.rng.choice(SPECIAL)), (2, self.terminal),
            (4, lambda: ''.join(chr(self.rng.randint(32, 126)) for _ in range(self.rng.randint(1, 20)))),
        ]
        return self.rng.choices([make for _, make in weighted], [weight for weight, _ in weighted])[0]()

    def text(self):
        rng = self.rng
        text = rng.choice(SEPARATORS).join(self.part() for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])))
        change = rng.randrange(20)
        if change == 0:
            text = self.mojibake(text)
        elif change == 1:
            text = html.escape(text)
        elif change == 2:
            text += '\n'
        elif change == 3:
            text = text[:rng.randrange(len(text) + 1)]
        return text

    def long(self):
        """A text of 1,000 words."""
        words = [w for text in REAL for w in text.split()] + 'a photo of the red running shoe on wooden table with white background and its box'.split() * 5
        return ' '.join(self.rng.choice(words) for _ in range(1000))


def generated(seed, count):
    texts = Texts(seed)
    for _ in range(count):
        yield texts.text()
    for _ in range(10):
        yield texts.long()
