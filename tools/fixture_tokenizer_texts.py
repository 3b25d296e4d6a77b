"""Texts for tests/fixtures/tokenizers, beside those of tokens.jsonl: what the pipelines of Hugging Face's tokenizers treat apart."""

LANGUAGES = '''The little boat came back to the harbour before the storm.|Das kleine Boot kehrte vor dem Sturm in den Hafen zurück.
Le petit bateau est rentré au port avant la tempête.|El pequeño barco volvió al puerto antes de la tormenta.|O pequeno barco voltou ao porto antes da tempestade.
La piccola barca tornò in porto prima della tempesta.|De kleine boot kwam voor de storm terug in de haven.|Mała łódka wróciła do portu przed burzą.
Den lilla båten kom tillbaka till hamnen före stormen.|Pieni vene palasi satamaan ennen myrskyä.|A kis csónak a vihar előtt visszatért a kikötőbe.
Küçük tekne fırtınadan önce limana döndü.|Маленькая лодка вернулась в гавань до бури.|Маленький човен повернувся до гавані перед бурею.
Το μικρό καράβι γύρισε στο λιμάνι πριν από την καταιγίδα.|הסירה הקטנה חזרה לנמל לפני הסערה.|عاد القارب الصغير إلى الميناء قبل العاصفة.
قایق کوچک پیش از توفان به بندر بازگشت.|छोटी नाव तूफ़ान से पहले बंदरगाह लौट आई।|ছোট নৌকাটি ঝড়ের আগে বন্দরে ফিরে এল।|சிறிய படகு புயலுக்கு முன் துறைமுகம் திரும்பியது.
เรือลำเล็กกลับเข้าท่าก่อนพายุมา|Chiếc thuyền nhỏ trở về bến cảng trước cơn bão.|小船在暴风雨来临之前回到了港口。|小船在暴風雨來臨之前回到了港口。
小さな船は嵐の前に港へ戻った。|작은 배는 폭풍이 오기 전에 항구로 돌아왔다.|Mashua ndogo ilirudi bandarini kabla ya dhoruba.|Perahu kecil itu kembali ke pelabuhan sebelum badai.
პატარა ნავი ქარიშხლამდე ნავსადგურში დაბრუნდა.|Փոքրիկ նավակը փոթորկից առաջ վերադարձավ նավահանգիստ։|ትንሹ ጀልባ ከማዕበሉ በፊት ወደ ወደቡ ተመለሰ።'''

# Special tokens as words of a text, and what looks like them.
TOKENS = ['<s>', '</s>', 'a</s>b', 'a </s> b', '<unk>', '<pad>', 'x <pad> y', '<mask>', 'a <mask> b', '<s> a </s>', '[CLS]', '[SEP]', '[MASK] it', 'a[SEP]b',
          '[UNK]', '[PAD]', '[ SEP ]', '[sep]', '<bos>', '<eos>', 'a<eos>b', '<start_of_turn>user', '<0x41>', '<0x0A>', '<extra_id_0>', '▁', '▁▁', 'a▁b', '▁a',
          ' ▁ a', 'eng_Latn', 'fra_Latn text', 'a eng_Latn b', '__eng_Latn__', '##ing', 'play ##ing', 'Ġ', 'Ġa', '</w>', '&lt;/s&gt;', '<​s>', '＜s＞', '<S>', '</S>']

# Unassigned, private, joined, decomposed, compatible: what normalisers change or remove.
SHAPES = ['ﬁ ﬂ ﬃ', 'ｱｲｳ', '㍿', '㌔', '①②③', 'Ａｂｃ１２３', 'x²', '½', '…', '‥', 'ﷺ', 'ﷻ', 'é', 'e\u0301', 'e\u0301\u0323', 'が', 'か\u3099', '각', '\u1100\u1161\u11a8', 'क्षि', 'நி',
          'กำ', 'ก\u0e4d\u0e32', '👩‍👩‍👧‍👦', '👍🏽', '🇩🇪🇫🇷🇯🇵', '❤️', '1️⃣', '🏴󠁧󠁢󠁥󠁮󠁧󠁿', 'a\u200bb', 'a\u200cb', 'a\u200db', 'a\u2060b', 'a\u00adb', 'a\ufeffb', 'a\u202eb', 'a\u180eb', 'a\u3000b',
          'a\u2028b', 'a\u00a0b', 'a\u1680b', 'a\ufffdb', 'a\ue000b', 'a\u0378b', '\U0010ffff', '\U000e0041', '\u0338', '̸a', 'Z̷a̵l̶g̷o̸', 'İI ıi', 'ΑΣ ΑΣΑ Σ', 'ς', 'ẞß', 'ǅ', 'Ⅷ', 'Ǆ',
          'Ä' 'a\u0308', 'Ṩ', 'ﬅ', 'ŉ', 'ĸ', '㎏', 'µ', 'Ω', 'K', 'Å', '中 文', '中a文1', 'ab中cd', '日本語text混ざり', '1,000.50', '12345678901234567890', '3.14e-10', '٣٤٥', '१२३',
          '𓀀𓂀', '𝔘𝔫𝔦𝔠𝔬𝔡𝔢', '🀄️', '‰ ‱', '«»‹›', '“”‘’', '–—―', '_a_b_', '__init__', 'a_b c_d', "don't can't", "it's o'clock", 'U.S.A.', 'e.g. i.e.', 'C++/C#', '@user #tag',
          'http://example.com/a_b?c=d&e=%20', 'user@example.com', '$5.00 (50%)', 'a-b—c–d', '!!!', '???!', '...', ',,,', '"""', '(((', '[]{}', '<>', '\\', '|', '~', '^', '`']


def long_texts():
    for word in ('cat', 'kitten sleeping', 'Donaudampfschifffahrt', '猫', 'แมว', 'кот', '😀', '!', '1', 'é', '_', '</s>', '<mask>'):
        for count in (13, 14, 15, 16, 17, 61, 62, 63, 64, 65, 74, 75, 76, 77, 78, 200):
            yield ' '.join([word] * count)
    for part in ('a', '中', 'ß', '😀', '!', '0', 'ก', 'ab', '▁', 'e\u0301'):
        for count in (99, 100, 101, 250, 1500):
            yield part * count
    yield ' '.join(LANGUAGES.replace('\n', '|').split('|'))


def more_texts():
    yield from LANGUAGES.replace('\n', '|').split('|')
    yield from TOKENS
    yield from SHAPES
    yield from long_texts()
    for one in SHAPES[:40]:
        yield f'a photo of {one}, {one}{one} and {one}!'
