"""Small tokenizers of every kind that OpenCLIP's models have, and the ids that OpenCLIP's HFTokenizer gives with them.

    python3 tools/fixture_tokenizers.py [KIND ...]      writes tests/fixtures/tokenizers/KIND.jsonl.zlib, all without arguments

Needs tools/requirements-fixtures.txt and tools/requirements-tokenizers.txt. The vocabularies are our own: trained here on the texts of
tests/fixtures/tokens.jsonl, with the algorithms of the real ones, and put into tokenizer.json by the classes of Transformers that make the
real ones. The ids are those of `open_clip.tokenizer.HFTokenizer`, never of this project.

A file is its length (32 bits, little-endian) and zlib's stream of lines. The first has `tokenizer` (tokenizer.json), `config`
(tokenizer_config.json), `pad` and `texts`, the texts of which whole rows are kept. Each of the others is a run: `arguments` of HFTokenizer,
`context_length`, `rows` (ids of `texts`, without the padding at their ends) and `digests`: of each text of tokens.jsonl, then of each of `texts`,
eight digits of the SHA-256 of its padded row, written as JSON without spaces. `post_processor`: in place of the file's own.
"""

import hashlib
import io
import json
import os
import struct
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from pathlib import Path

os.environ.update(TOKENIZERS_PARALLELISM='false', RAYON_NUM_THREADS='1', HF_HUB_OFFLINE='1', TRANSFORMERS_VERBOSITY='error')

import sentencepiece
import transformers
from open_clip.tokenizer import HFTokenizer
from tokenizers import ByteLevelBPETokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from fixture_tokenizer_texts import LANGUAGES, more_texts

FIXTURES = Path(__file__).parent.parent / 'tests' / 'fixtures'
OUT = FIXTURES / 'tokenizers'


def known_texts():
    with open(FIXTURES / 'tokens.jsonl') as file:
        return [json.loads(line)['text'] for line in file]


def corpus():
    texts = known_texts()[:1500] + LANGUAGES.replace('\n', '|').split('|') * 8
    return [line for text in texts for line in text.splitlines() if line.strip() and '\0' not in line and len(line) < 400]


def frequent(lines, count_min):
    """Lines without rare characters. The trainer chooses among equally rare ones by chance."""
    counts = Counter(''.join(lines))
    return [line for line in lines if all(counts[c] >= count_min for c in line)]


def sentencepiece_model(folder, lines=None, **settings):
    """A model file of SentencePiece."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines or corpus()), model_writer=model, num_threads=1, hard_vocab_limit=False, minloglevel=2, **settings)
    file = Path(folder) / 'spiece.model'
    file.write_bytes(model.getvalue())
    return str(file)


def wordpiece(folder, vocab_size=1600, lines=None):
    """bert-base-uncased, of CLIPA. Trained by hand: the trainer of `tokenizers`, which joins the most frequent pair as well, orders equal ones by
    chance."""
    normalizer, pieces = BertNormalizer(lowercase=True), BertPreTokenizer()
    words = Counter(word for line in lines or frequent(corpus(), 12) for word, _ in pieces.pre_tokenize_str(normalizer.normalize_str(line)))
    parts = {word: [word[0], *(f'##{c}' for c in word[1:])] for word in words}
    vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *sorted({part for split in parts.values() for part in split})]
    while len(vocabulary) < vocab_size:
        pairs = Counter()
        for word, split in parts.items():
            for pair in zip(split, split[1:]):
                pairs[pair] += words[word]
        left, right = max(pairs, key=lambda pair: (pairs[pair], pair))
        joined = left + right.removeprefix('##')
        vocabulary.append(joined)
        for split in parts.values():
            at = 0
            while at < len(split) - 1:
                if split[at] == left and split[at + 1] == right:
                    split[at:at + 2] = [joined]
                at += 1
    file = Path(folder) / 'vocab.txt'
    file.write_text('\n'.join(dict.fromkeys(vocabulary)) + '\n')
    return transformers.BertTokenizerFast(vocab_file=str(file), do_lower_case=True)


def byte_bpe(folder):
    """roberta-base."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(corpus(), vocab_size=2000, min_frequency=2, show_progress=False,
                                special_tokens=['<s>', '<pad>', '</s>', '<unk>', '<mask>'])
    trained.save_model(folder)
    return transformers.RobertaTokenizerFast(vocab_file=f'{folder}/vocab.json', merges_file=f'{folder}/merges.txt')


def t5(folder):
    """T5's Unigram of SigLIP, as timm publishes it: padded with the end of the text."""
    file = sentencepiece_model(folder, model_type='unigram', vocab_size=2500, normalization_rule_name='nmt_nfkc', character_coverage=0.98,
                               pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return transformers.T5TokenizerFast(vocab_file=file, extra_ids=0, legacy=False, add_prefix_space=True, pad_token='</s>')


def mt5(folder):
    """mT5's Unigram: pieces for bytes, and a hundred tokens of T5's own behind its vocabulary."""
    file = sentencepiece_model(folder, model_type='unigram', vocab_size=2500, normalization_rule_name='nmt_nfkc', character_coverage=0.98,
                               pad_id=0, eos_id=1, unk_id=2, bos_id=-1, byte_fallback=True)
    return transformers.MT5TokenizerFast(vocab_file=file, legacy=True, add_prefix_space=True)


def xlm_r(folder, vocab_size=3500, lines=None, rule='nmt_nfkc'):
    """XLM-RoBERTa, and XLM-V: Unigram, fairseq's order of the special tokens."""
    file = sentencepiece_model(folder, lines, model_type='unigram', vocab_size=vocab_size, normalization_rule_name=rule, character_coverage=0.99)
    return transformers.XLMRobertaTokenizerFast(vocab_file=file)


def gemma(folder, vocab_size=3000, lines=None):
    """Gemma's BPE of SigLIP 2: bytes for what is unknown, no normalisation, one piece for the whole text."""
    file = sentencepiece_model(folder, lines, model_type='bpe', vocab_size=vocab_size, normalization_rule_name='identity', character_coverage=0.98,
                               pad_id=0, eos_id=1, bos_id=2, unk_id=3, byte_fallback=True, split_digits=True,
                               add_dummy_prefix=False, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
                               user_defined_symbols=['<mask>', '<unused0>', '▁▁', '▁▁▁', '<table>'], control_symbols=['<start_of_turn>', '<end_of_turn>'])
    return transformers.GemmaTokenizerFast(vocab_file=file, add_bos_token=False, add_eos_token=True, padding_side='right')


def nllb(folder):
    """NLLB: BPE, the language's code before the text."""
    file = sentencepiece_model(folder, model_type='bpe', vocab_size=3500, normalization_rule_name='nmt_nfkc', character_coverage=0.99)
    return transformers.NllbTokenizerFast(vocab_file=file)


# For each kind its runs: HFTokenizer's arguments, and context lengths.
WHITESPACE, LOWER, CANONICALIZE = {}, dict(clean='lower'), dict(clean='canonicalize')
KINDS = {
    wordpiece: [(WHITESPACE, [16, 64, 77]), (dict(strip_sep_token=True), [32, 77]), (CANONICALIZE, [77])],
    byte_bpe: [(WHITESPACE, [16, 64, 77]), (dict(clean='lower', strip_sep_token=True), [77])],
    t5: [(CANONICALIZE, [16, 64, 77]), (WHITESPACE, [64])],
    mt5: [(CANONICALIZE, [16, 77]), (WHITESPACE, [64, 77])],
    xlm_r: [(WHITESPACE, [16, 64, 77]), (LOWER, [77])],
    gemma: [(CANONICALIZE, [16, 64, 77]), (WHITESPACE, [64]), (LOWER, [64])],
    nllb: [(WHITESPACE, [16, 64, 77]), (dict(language='deu_Latn'), [77]), (dict(src_lang='deu_Latn'), [16, 77])],
}

LEGACY = {
    'type': 'TemplateProcessing',
    'single': [{'Sequence': {'id': 'A', 'type_id': 0}}, {'SpecialToken': {'id': '</s>', 'type_id': 0}}, {'SpecialToken': {'id': 'eng_Latn', 'type_id': 0}}],
}


def legacy(own):
    """How the file of facebook/nllb-200-distilled-600M has it, which Transformers replaces."""
    tokens = own['special_tokens']
    pair = [LEGACY['single'][0], {'Sequence': {'id': 'B', 'type_id': 0}}, *LEGACY['single'][1:]]
    return {**LEGACY, 'pair': pair, 'special_tokens': tokens}


def run(folder, arguments, context_length, kept, texts):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        tokenizer = HFTokenizer(folder, context_length=context_length, **arguments)
        rows = tokenizer([*texts, *kept]).tolist()
    pad = tokenizer.tokenizer.pad_token_id
    digests = [hashlib.sha256(json.dumps(row, separators=(',', ':')).encode()).hexdigest()[:8] for row in rows]

    def trimmed(row):
        while row and row[-1] == pad:
            row = row[:-1]
        return row

    return pad, dict(arguments=arguments, context_length=context_length, rows=[trimmed(row) for row in rows[len(texts):]], digests=''.join(digests))


def make(kind, runs):
    texts = known_texts()
    kept = list(dict.fromkeys(more_texts()))
    with tempfile.TemporaryDirectory() as work:
        folder = f'{work}/saved'
        kind(work).save_pretrained(folder)
        read = lambda name: json.loads((Path(folder) / name).read_text())
        tokenizer, config = read('tokenizer.json'), read('tokenizer_config.json')
        lines = []
        for arguments, lengths in runs:
            for length in lengths:
                pad, line = run(folder, arguments, length, kept, texts)
                lines.append(line)
        if kind is nllb:
            own = legacy(tokenizer['post_processor'])
            (Path(folder) / 'tokenizer.json').write_text(json.dumps({**tokenizer, 'post_processor': own}))
            pad, line = run(folder, {}, 77, kept, texts)
            lines.append({**line, 'post_processor': own})
    # Names of the folder it was made in.
    for name in ('name_or_path', 'vocab_file', 'tokenizer_file'):
        config.pop(name, None)
    lines.insert(0, dict(tokenizer=tokenizer, config=config, pad=pad, texts=kept))
    text = ''.join(json.dumps(line, ensure_ascii=False, separators=(',', ':')) + '\n' for line in lines).encode()
    packed = struct.pack('<I', len(text)) + zlib.compress(text, 9)
    OUT.mkdir(exist_ok=True)
    (OUT / f'{kind.__name__}.jsonl.zlib').write_bytes(packed)
    size = len(tokenizer['model']['vocab'])
    print(f'{kind.__name__}: {size} entries, pad {pad}, {len(kept)} + {len(texts)} texts, {len(lines) - 1} runs, {len(packed)} bytes', flush=True)


if __name__ == '__main__':
    wanted = sys.argv[1:]
    for kind, runs in KINDS.items():
        if not wanted or kind.__name__ in wanted:
            make(kind, runs)
