"""What `clipstream bench tokenize --peers` compares with, on one thread: OpenCLIP's SimpleTokenizer, or `tokenizers` with a file,
behind OpenCLIP's cleaning and alone.

usage: token_ids.py CATALOG.jsonl ROUNDS CONTEXT_LENGTH clip|TOKENIZER.json
Prints a line of JSON: {"with", "load_ms", "tokens_per_s", "uncleaned_tokens_per_s"}; medians of ROUNDS rounds.
"""
import importlib.metadata
import json
import statistics
import sys
import time

from open_clip.tokenizer import SimpleTokenizer, basic_clean, whitespace_clean

catalog, rounds, context_length, file = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
with open(catalog, encoding='utf-8') as lines:
    texts = [json.loads(line)['text'] for line in lines]


def rate(encode):
    def one_round():
        start = time.perf_counter()
        tokens = sum(encode(text) for text in texts)
        return tokens / (time.perf_counter() - start)

    one_round()
    return statistics.median(one_round() for _ in range(rounds))


start = time.perf_counter()
if file == 'clip':
    tokenizer = SimpleTokenizer(context_length=context_length)
    load_ms = (time.perf_counter() - start) * 1e3
    # Start and end are two more.
    cleaned = rate(lambda text: min(len(tokenizer.encode(text)) + 2, context_length))
    uncleaned, package = None, 'open_clip_torch'
else:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)
    tokenizer.enable_truncation(context_length)
    tokenizer.no_padding()
    load_ms = (time.perf_counter() - start) * 1e3
    cleaned = rate(lambda text: len(tokenizer.encode(whitespace_clean(basic_clean(text))).ids))
    uncleaned, package = rate(lambda text: len(tokenizer.encode(text).ids)), 'tokenizers'

print(json.dumps({
    'with': f'{package} {importlib.metadata.version(package)}',
    'load_ms': load_ms,
    'tokens_per_s': cleaned,
    'uncleaned_tokens_per_s': uncleaned,
}))
