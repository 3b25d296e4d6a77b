"""Texts for tests/fixtures/tokens.jsonl: what people write, and what breaks tokenizers."""
import random

PLAIN = '''a photo of a cat|A photo of a DOG.|red running shoe, size 42|Women's summer dress - floral print|the quick brown fox jumps over the lazy dog
Laptop 15.6" 16GB RAM 512GB SSD|it's 5 o'clock, they're late and we've no time; I'd say he'll come, I'm sure don't|hello world!!!|50% off!!! only $19.99|3.14159 2,718 1e-9 0x1F
http://example.com/a?b=c&d=e#f|user@example.com|C++ and C# and F#|snake_case kebab-case CamelCase|(parentheses) [brackets] {braces} <angles>
"double" 'single' `back`|a/b\\c|x=y+z*2^3|1st 2nd 3rd 4th|The U.S.A. vs. the U.K.|rock'n'roll|y'all're|'tis the season|O'Reilly's|'S 'T 'RE|we'll've
supercalifragilisticexpialidocious|pneumonoultramicroscopicsilicovolcanoconiosis|aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa|zzzzzzzz|asdfghjkl|!?!?!?|...|---|***|@#$%^&*()|~`|\\|\\\\|a  b   c|i|I|.|0|00|007|1234567890'''

UNICODE = '''café|cafe\u0301|naïve façade|Ångström|A\u030angstro\u0308m|Straße|STRASSE|ﬁne ﬂow ﬀ ﬃ ﬄ|ﬅ ﬆ|ĳsselmeer Ĳ|ŉ|ǆ ǅ Ǆ|İstanbul|ısparta|ΑΣ ΣΑΣ ὈΔΥΣΣΕΎΣ|ὀδυσσεύς|Привет, мир!|ПРИВЕТ|Україна їжак|שלום עולם|مرحبا بالعالم|हिन्दी में लिखा|ภาษาไทย|ไม่มีช่องว่าง|中文分词测试|红色跑鞋|日本語のテキスト|カタカナ|ひらがな|ﾊﾝｶｸ ｶﾀｶﾅ|ｆｕｌｌｗｉｄｔｈ　ＴＥＸＴ１２３|한국어 텍스트|tiếng Việt có dấu|Việt Nam đẹp|ქართული|ᲥᲐᲠᲗᲣᲚᲘ|Հայերեն|አማርኛ|ᏣᎳᎩ ꮳꮃꭹ|𝐛𝐨𝐥𝐝 𝑖𝑡𝑎𝑙𝑖𝑐|𝕳𝖊𝖑𝖑𝖔|① ② ③|½ ⅓ ¾|x² y³ zⁿ|H₂O CO₂|™ ® © ℠|№ 5|€100 £20 ¥3000 ₹50 ₿1|°C °F|µm μm|Ωmega Ω|K kelvin|Å|± × ÷ ≠ ≤ ≥ ≈ ∞ √ ∑ ∫|→ ← ↑ ↓ ⇒|♠ ♥ ♦ ♣|☀ ☁ ☂ ☃|✓ ✗ ✔ ✘|Ⅳ Ⅻ ⅷ|٣٤٥ ۳۴۵ ३४५|ß ẞ|ſ long s|'ſ|Ǳ ǲ|ȡ|ɐ ʃ ŋ|ᴀʙᴄ|Ɐ|Ꞌ'''

EMOJI = '''😀|😀😃😄|👍🏽|👩‍👩‍👧‍👦|👨🏿‍🚀|🏳️‍🌈|🇩🇪 🇫🇷|❤️|❤|☺️ ☺|1️⃣ #️⃣ *️⃣|🫠 🫡|🪿|🐈‍⬛|a 🐕 and a 🐈|pizza🍕time|🎉party🎉|🧑‍💻coding|🏴󠁧󠁢󠁥󠁮󠁧󠁿|©️ ™️|♀️♂️|👁️‍🗨️|🤷🏻‍♀️|💩|🥹 fresh|🫨🫷🫸|⌚⏰|🔟|🅰️🅱️'''

HTML = '''fish &amp; chips|fish &amp;amp; chips|fish &amp;amp;amp; chips|fish &amp;amp;amp;amp; chips|&lt;b&gt;bold&lt;/b&gt;|<b>bold</b>|<p>fish &amp; chips</p>|<p>caf&eacute;</p>|caf&eacute; cr&egrave;me|&copy; 2024 &reg; &trade;|&nbsp;space&nbsp;|&#65;&#66;&#67;|&#x41;&#x42;|&#X41;|&#128512;|&#x1F600;|&#0; &#128; &#150; &#153;|&#55296; &#x110000; &#1114112;|&#1; &#11; &#12; &#13; &#127; &#129;|&notit; &not it|&ampamp; &amp &lt &gt|&quot;quoted&quot; &apos;x&apos;|&hellip;&mdash;&ndash;|&lsquo;a&rsquo; &ldquo;b&rdquo;|&unknown; &;|&|&&|AT&T|R&D;|&times 3 &divide;|&EACUTE; &Eacute; &eacute|&NotEqualTilde;|&fjlig;|&frac12; cup|&sup2;|&alpha;&beta;&gamma; &Omega;|&zwj;|&#8203;zero|&#xfeff;bom|&lt;!-- comment --&gt;|a &lt; b|a < b &amp; c > d|1 &lt 2 &gt 0|&amp;lt;script&amp;gt;|&amp;#39;|&#39;s|dog&#39;s bone|&#8217;s|e&#769;|< e&#769;|&ThickSpace;x|&#x80; < &#x99;|&CounterClockwiseContourIntegral;|&ltdot; &lt;dot|&ngE;|&nGt;|<br/>line|<!DOCTYPE html>|&#9999999999999;|&#x;|&#;|&# 65;|&#65|&#65B'''

MOJIBAKE = '''cafÃ©|naÃ¯ve|â€œquotedâ€\x9d|donâ€™t|itâ€™s|â€“ dash â€” dash|Ã¼ber|schÃ¶n|StraÃŸe|âœ” No problems|Â£100|100Â°C|Â© 2020|ðŸ˜€|ðŸ\x98\x80|Ð¿Ñ€Ð¸Ð²ÐµÑ‚|Ã¡Ã©Ã\xadÃ³Ãº|l’humanitÃ©|sÃ³|Ãƒ©|ÃƒÂ©|à perturber la réflexion|Ã\xa0 perturber la rÃ©flexion|vedere Ã¨ piÃ¹|Ã la carte|voilÃ  le travail|ä½\xa0å¥½|ã\x81\x93ã\x82\x93|MÃœNCHEN|LÂ´Oreal|Nestlé|NestlÃ© chocolate|El NiÃ±o|piÃ±ata|FrÃ©dÃ©ric|ï»¿bom text|(à¸‡\'âŒ£\')à¸‡|â™¥ love|â˜ƒ|Jos� Garc�a|JosÃ�|caf? crÃ¨me|RenÃ©e|Zoë|ZoÃ«|¿QuÃ©?|½ teaspoon|â„¢ brand|â€¢ item one|Ã…land|Å\x81ódź|Å‚Ã³dÅº|ÐœÐ¾ÑÐºÐ²Ð°|Âµm|AÃ±o Nuevo|Ã€ bientÃ´t|the price is Â€5|\x93quoted\x94|it\x92s|1\x96 2\x97 3|\x85 wait|\x80 100|â‚¬ 5|€ 5|Ã\x83Â©|éÃ©|é|Ã|Â|Â |Ã\x80|ÂÂ|â€|â€¦ more|Ë†|Ã¢â‚¬â„¢'''

CONTROL = ['', ' ', '\n', '\t\n\r ', 'a\tb\nc\rd', 'a\r\nb', 'a\x00b', 'a\x01\x02b', '\x1b[31mred\x1b[0m', '\x1b[1;32mbold\x1b[m', 'a\x07bell', 'a\x0bvertical', 'a\x0cpage', 'a\x1cfs\x1dgs\x1ers\x1fus', 'a\x7fdel', 'a\x85next line', 'a\xa0no break', 'a\xadsoft',
           'a\u2028line\u2029para', 'a\u200bzero\u200cwidth\u200djoin', '\ufeffbom', 'a\u202eevil\u202c', 'a\u2003em\u3000ideo', 'a\u180emongol', 'a\u200eltr\u200frtl', 'a\u2060wj', 'a\ufff9anno\ufffb', 'a\ufffdrepl', 'a\ue000private', 'a\u0378unassigned', 'a\U000e0001tag', 'a\u206anominal',
           '\x80\x81\x82', 'tab\tseparated\tvalues', '   leading and trailing   ', 'many     spaces', 'new\n\n\nlines', '\u2000\u2001', 'a\u1680b', 'a\u205fb', '\x1c\x1d', 'x\u0300\u0301\u0302', '\u0301', 'a\u0301\u0327', 'ﾞ', 'か\u3099', 'カ\u3099', '각', '각', 'Å', 'Ω', '豈', '\u0344', 'ﬁ\u0301']

QUOTES = ['“curly”', '‘single’', 'don’t', 'it’s', '‚low‘ „low“', '«guillemets»', '‹single›', '‛rev‟', '′prime″', '`tick´', 'rock ’n’ roll', "'re", '’re', "they’re we’ve I’m you’ll he’d", '…', '—em—', '–en–', '−minus', '‐hyphen‑', '·', '•', '″', 'ʼ', 'ʻokina', '＇full＂', "''s", "'''s", "!'s", "a's's", "'d'll", "’’s", '5’11”', '“‘nested’”']

SPECIAL = ['<start_of_text>', '<end_of_text>', 'a <end_of_text> b', 'a<end_of_text>b', '!<end_of_text>', '!!<start_of_text>!!', '<START_OF_TEXT> x', '<end_of_text><end_of_text>', 'x<end_of_text>!<end_of_text>', '<|startoftext|>', '<|endoftext|>', 'a<|endoftext|>b', '</w>', 'a</w>', '<pad>', '[CLS] [SEP]', '<start_of_text', '<<end_of_text>', '5<end_of_text>6', "'s<end_of_text>", '&lt;end_of_text&gt;', 'é<end_of_text>', '中<end_of_text>文', '😀<end_of_text>', '! ! ! !', '!']


def long_texts():
    yield 'cat ' * 74
    yield 'cat ' * 75
    yield 'cat ' * 76
    yield 'cat ' * 77
    yield 'cat ' * 500
    yield 'a' * 3000
    yield '中' * 200
    yield '😀' * 100
    yield '!' * 400
    yield '1 ' * 100
    yield 'word ' * 74 + '<end_of_text> tail'
    yield 'word ' * 80 + '<end_of_text> tail'
    yield 'supercalifragilisticexpialidocious ' * 20
    yield ' '.join(f'token{i}' for i in range(120))


def random_texts():
    """Seeded mixtures: words, marks and characters from everywhere, stuck together."""
    rng = random.Random(3)
    blocks = [(0x20, 0x7e), (0xa0, 0xff), (0x100, 0x17f), (0x370, 0x3ff), (0x400, 0x4ff), (0x600, 0x6ff), (0x900, 0x97f), (0x3040, 0x30ff), (0x4e00, 0x4fff), (0xac00, 0xacff), (0x2000, 0x206f), (0x2190, 0x21ff), (0x1f300, 0x1f64f), (0xff00, 0xffef)]
    words = [w for line in (PLAIN, UNICODE, HTML, MOJIBAKE, EMOJI) for w in line.replace('\n', '|').split('|')]
    for _ in range(60):
        yield ''.join(chr(rng.randint(*rng.choice(blocks))) for _ in range(rng.randint(1, 30)))
    for _ in range(60):
        yield rng.choice([' ', '', ', ', '\n']).join(rng.choice(words) for _ in range(rng.randint(2, 6)))


def texts():
    for group in (PLAIN, UNICODE, EMOJI, HTML, MOJIBAKE):
        yield from group.replace('\n', '|').split('|')
    for group in (CONTROL, QUOTES, SPECIAL):
        yield from group
    yield from long_texts()
    yield from random_texts()


TEXTS = list(texts())
