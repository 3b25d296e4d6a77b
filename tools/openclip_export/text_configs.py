"""Configurations of the text towers that OpenCLIP takes from Transformers, for where the hub is not reached.

The sizes are those of the published `config.json` of each repository, written from memory. Weights of another size do not load,
so a wrong number shows; what no weight shows (activation, padding, scale of the embeddings) is checked by the golden vectors of whoever has the
weights.
"""

import transformers

KNOWN = {
    "roberta-base": lambda: transformers.RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2
    ),
    "xlm-roberta-base": lambda: transformers.XLMRobertaConfig(
        vocab_size=250002, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2
    ),
    "xlm-roberta-large": lambda: transformers.XLMRobertaConfig(
        vocab_size=250002, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, max_position_embeddings=514,
        type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    ),
    "google/mt5-base": lambda: transformers.MT5Config(vocab_size=250112, d_model=768, d_kv=64, d_ff=2048, num_layers=12, num_heads=12),
    "google/mt5-xl": lambda: transformers.MT5Config(vocab_size=250112, d_model=2048, d_kv=64, d_ff=5120, num_layers=24, num_heads=32),
    "facebook/nllb-200-distilled-600M": lambda: nllb(layers=12, perceptron=4096),
    "facebook/nllb-200-distilled-1.3B": lambda: nllb(layers=24, perceptron=8192),
}  # fmt: skip


def nllb(layers: int, perceptron: int) -> transformers.PretrainedConfig:
    return transformers.M2M100Config(
        vocab_size=256206, d_model=1024, encoder_layers=layers, decoder_layers=layers, encoder_ffn_dim=perceptron, decoder_ffn_dim=perceptron,
        encoder_attention_heads=16, decoder_attention_heads=16, max_position_embeddings=1024, scale_embedding=True, activation_function="relu",
    )  # fmt: skip


def narrowed(config: transformers.PretrainedConfig, layers: int = None, vocabulary: int = None) -> transformers.PretrainedConfig:
    """The same tower with at most so many layers and tokens. A decoder is not used, and gets one layer."""
    if vocabulary is not None:
        config.vocab_size = vocabulary
    for name in ("num_hidden_layers", "num_layers", "encoder_layers"):
        # Only what is a value of its own: M2M100's `num_hidden_layers` is another name of its `encoder_layers`.
        if layers is not None and name in vars(config):
            setattr(config, name, min(getattr(config, name), layers))
    for name in ("decoder_layers", "num_decoder_layers"):
        if name in vars(config):
            setattr(config, name, 1)
    return config
