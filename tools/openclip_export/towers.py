"""A CLIP model's two towers as modules whose graphs are small, free in batch and text length, and quick.

Two things differ from OpenCLIP's modules, neither in what is computed:

- Attention is written out in plain operators over OpenCLIP's own weights (`torch.nn.MultiheadAttention` exports to twice
  as many nodes, most of them shapes), with the scores' scale folded into the query's weights.
- Only one token is pooled, so the last block computes queries, MLP and norms of that token alone. For 12 layers that is
  7 % of the work.

Outputs have unit length. The activation stays as OpenCLIP's module has it, so that a reader of the graph finds
`x * sigmoid(1.702 x)` or the error function.
"""

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, TextTransformer, Transformer, VisionTransformer, text_global_pool
from torch import nn


class Attention(nn.Module):
    """What `MultiheadAttention(x, x, x)` gives, for all tokens of `x` or as seen from `queries` alone."""

    def __init__(self, original: nn.MultiheadAttention, last: bool):
        super().__init__()
        self.heads, width = original.num_heads, original.embed_dim
        weight, bias = original.in_proj_weight.detach().clone(), original.in_proj_bias.detach().clone()
        scale = (width // self.heads) ** -0.5
        weight[:width] *= scale
        bias[:width] *= scale
        # One product for all three where the tokens are the same ones.
        parts = [width, 2 * width] if last else [3 * width]
        self.projections = nn.ModuleList(_linear(w, b) for w, b in zip(weight.split(parts), bias.split(parts)))
        self.out = original.out_proj

    def _heads(self, x):
        batch, tokens, width = x.shape
        return x.reshape(batch, tokens, self.heads, width // self.heads)

    def forward(self, x, mask=None, queries=None):
        width = x.shape[-1]
        if queries is None:
            query, key, value = self.projections[0](x).split(width, -1)
        else:
            query = self.projections[0](queries)
            key, value = self.projections[1](x).split(width, -1)
        scores = self._heads(query).permute(0, 2, 1, 3) @ self._heads(key).permute(0, 2, 3, 1)
        if mask is not None:
            scores = scores + mask
        attended = torch.softmax(scores, -1) @ self._heads(value).permute(0, 2, 1, 3)
        return self.out(attended.permute(0, 2, 1, 3).reshape(query.shape))


class Block(nn.Module):
    """A `ResidualAttentionBlock`; with `pooled`, for the token at that index alone: [batch, tokens, width] to [batch, 1, width]."""

    def __init__(self, original: ResidualAttentionBlock, last: bool = False):
        super().__init__()
        self.attention = Attention(original.attn, last)
        self.ln_1, self.ls_1, self.ln_2, self.ls_2, self.mlp = original.ln_1, original.ls_1, original.ln_2, original.ls_2, original.mlp

    def forward(self, x, mask=None, pooled=None):
        normed = self.ln_1(x)
        if pooled is None:
            x = x + self.ls_1(self.attention(normed, mask))
        else:
            x = pooled(x) + self.ls_1(self.attention(normed, None if mask is None else pooled(mask), queries=pooled(normed)))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


def blocks_of(transformer: Transformer, pooled: bool) -> nn.ModuleList:
    blocks = transformer.resblocks
    return nn.ModuleList(Block(block, last=pooled and block is blocks[-1]) for block in blocks)


def is_plain(transformer) -> bool:
    blocks = getattr(transformer, "resblocks", [])
    return isinstance(transformer, Transformer) and len(blocks) > 0 and all(type(b) is ResidualAttentionBlock for b in blocks)


class ImageTower(nn.Module):
    """Normalised pixels [batch, 3, height, width] to unit vectors [batch, dimension]."""

    def __init__(self, model):
        super().__init__()
        visual = model.visual
        self.visual = visual
        self.plain = type(visual) is VisionTransformer and is_plain(visual.transformer) and visual.attn_pool is None and visual.pool_type == "tok"
        if self.plain:
            self.blocks = blocks_of(visual.transformer, pooled=True)

    def forward(self, image):
        if not self.plain:  # ResNets, timm's towers, other pools: OpenCLIP's own modules
            return unit(self.visual(image.to(_dtype(self))))
        x = self.visual._embeds(image.to(_dtype(self)))
        for block in self.blocks[:-1]:
            x = block(x)
        x = self.blocks[-1](x, pooled=lambda tokens: tokens[:, :1])
        x = self.visual.ln_post(x[:, 0])
        return unit(x if self.visual.proj is None else x @ self.visual.proj)


class TextTower(nn.Module):
    """Token ids [batch, tokens] to unit vectors [batch, dimension]."""

    def __init__(self, model):
        super().__init__()
        # `CLIP` holds the parts of its text tower itself, `CustomTextCLIP` a `TextTransformer`.
        text = getattr(model, "text", model)
        self.pool = getattr(text, "pool_type", None) or model.text_pool_type
        self.eos = getattr(text, "eos_id", None) or getattr(model, "text_eos_id", None)
        self.embedding, self.positions, self.ln_final = text.token_embedding, text.positional_embedding, text.ln_final
        self.projection = text.text_projection
        self.context_length = self.positions.shape[0]
        if not (isinstance(text, TextTransformer) or text is model) or not is_plain(text.transformer):
            raise NotImplementedError(type(text).__name__)
        self.register_buffer("mask", text.attn_mask)
        # A causal tower that is pooled at the end-of-text token never sees the padding behind it: any length that holds
        # the text gives the same vector. A tower that sees all tokens, or is pooled at the last one, has one length.
        self.any_length = self.mask is not None and self.pool in ("argmax", "eos")
        self.blocks = blocks_of(text.transformer, pooled=self.any_length)

    def forward(self, text):
        tokens = text.shape[1] if self.any_length else self.context_length
        x = self.embedding(text) + self.positions[:tokens]
        mask = None if self.mask is None else self.mask[:tokens, :tokens]
        for block in self.blocks[:-1] if self.any_length else self.blocks:
            x = block(x, mask)
        if self.any_length:
            end = text.argmax(-1) if self.pool == "argmax" else (text == self.eos).int().argmax(-1)

            def pooled(rows):
                # Of the mask [tokens, tokens] its row at each text's end, for all heads: [batch, 1, 1, tokens].
                if rows.ndim == 2:
                    return rows[end][:, None, None]
                return rows[torch.arange(rows.shape[0], device=rows.device), end][:, None]

            x = self.ln_final(self.blocks[-1](x, mask, pooled)[:, 0])
        else:
            x = text_global_pool(self.ln_final(x), text, self.pool, self.eos)
        if isinstance(self.projection, nn.Linear):
            x = self.projection(x)
        elif self.projection is not None:
            x = x @ self.projection
        return unit(x)


def unit(vectors):
    return F.normalize(vectors.float(), dim=-1)


def _linear(weight, bias):
    linear = nn.Linear(*weight.shape[::-1], device="meta")
    linear.weight, linear.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    return linear


def _dtype(module):
    return next(module.parameters()).dtype
