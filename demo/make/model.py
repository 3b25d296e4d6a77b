"""A CLIP small enough to keep in a repository: 2.5 M image and 5.0 M text parameters, 256 dimensions, 96 px."""

import torch
import torch.nn as nn
import torch.nn.functional as F

IMAGE_SIZE, CONTEXT_LENGTH, DIMENSION, VOCABULARY = 96, 77, 256, 49408
HEADS = 3

# OpenAI CLIP's.
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


class Block(nn.Module):
    """Pre-norm transformer block, GELU."""

    def __init__(self, width):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.mlp_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, x, causal):
        batch, tokens, width = x.shape
        heads = self.query_key_value(self.attention_norm(x)).view(batch, tokens, 3, HEADS, width // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        x = x + self.attention_out(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x))))


class ImageTower(nn.Module):
    """[batch, 3, 96, 96] normalised pixels -> [batch, 256] unit vectors."""

    def __init__(self, width=192, layers=5, patch=16):
        super().__init__()
        # Three small convolutions instead of one 16 x 16 patch: learns faster from few pictures.
        self.patches = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.GELU(), nn.Conv2d(32, 64, 3, 2, 1), nn.GELU(), nn.Conv2d(64, width, 4, 4)
        )
        self.class_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = nn.Parameter(torch.randn((IMAGE_SIZE // patch) ** 2 + 1, width) * 0.02)
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList([Block(width) for _ in range(layers)])
        self.norm_out = nn.LayerNorm(width)
        self.projection = nn.Linear(width, DIMENSION, bias=False)

    def forward(self, pixels):
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = self.norm_in(torch.cat([self.class_token.expand(x.shape[0], 1, -1), x], 1) + self.positions)
        for block in self.blocks:
            x = block(x, False)
        return F.normalize(self.projection(self.norm_out(x.mean(1))), dim=-1)


class TextTower(nn.Module):
    """[batch, length <= 77] CLIP token ids -> [batch, 256] unit vectors, pooled at end-of-text; causal."""

    def __init__(self, width=192, layers=4, embedding_width=64):
        super().__init__()
        # The vocabulary is most of the size: embed narrow, then widen.
        self.embedding = nn.Embedding(VOCABULARY, embedding_width)
        self.widen = nn.Linear(embedding_width, width, bias=False)
        self.positions = nn.Parameter(torch.randn(CONTEXT_LENGTH, width) * 0.01)
        self.blocks = nn.ModuleList([Block(width) for _ in range(layers)])
        self.norm_out = nn.LayerNorm(width)
        self.projection = nn.Linear(width, DIMENSION, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.05)

    def forward(self, ids):
        x = self.widen(self.embedding(ids)) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, True)
        x = self.norm_out(x)
        # End-of-text has the highest id of the vocabulary, so argmax finds its place.
        return F.normalize(self.projection(x[torch.arange(x.shape[0]), ids.argmax(1)]), dim=-1)
