"""A CLIP model's two towers as modules whose graphs are small, free in batch and text length, and quick. Towers of timm and of
Transformers are taken as they are.

Two things differ from OpenCLIP's modules, neither in what is computed:

- Attention is written out in plain operators over OpenCLIP's own weights (`torch.nn.MultiheadAttention` exports to twice
  as many nodes, most of them shapes), with the scores' scale folded into the query's weights.
- Where only one token is pooled, the last block computes queries, MLP and norms of that token alone. For 12 layers that is
  7 % of the work. Of CoCa's 256 queries for the picture's tokens, only the one that its vector is made of is asked.

Outputs have unit length. The activation stays as OpenCLIP's module has it, so that a reader of the graph finds
`x * sigmoid(1.702 x)` or the error function.
"""

import torch
import torch.nn.functional as F
from open_clip.transformer import AttentionalPooler, ResidualAttentionBlock, TextTransformer, Transformer, VisionTransformer, text_global_pool
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


class AttentionPool(nn.Module):
    """CoCa's `AttentionalPooler` at its first query, the only one that the picture's vector is made of: [batch, tokens, width] to
    [batch, dimension]."""

    def __init__(self, original: AttentionalPooler):
        super().__init__()
        attention = original.attn
        self.heads, width = attention.num_heads, attention.embed_dim
        self.norm, self.out = original.ln_k, attention.out_proj
        if attention.in_proj_weight is None:
            weights = attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight
        else:
            weights = attention.in_proj_weight.split(width)
        (query, key, value), biases = (weight.detach() for weight in weights), attention.in_proj_bias.detach().split(width)
        # The query is not of the picture, so it is projected here.
        with torch.no_grad():
            asked = F.linear(original.ln_q(original.query[:1]), query, biases[0]) * (width // self.heads) ** -0.5
        self.query = nn.Parameter(asked.reshape(1, self.heads, 1, width // self.heads), requires_grad=False)
        self.key, self.value = _linear(key, biases[1]), _linear(value, biases[2])

    def forward(self, x):
        x = self.norm(x)
        heads = (*x.shape[:2], self.heads, self.query.shape[-1])
        scores = self.query @ self.key(x).reshape(heads).permute(0, 2, 3, 1)
        attended = torch.softmax(scores, -1) @ self.value(x).reshape(heads).permute(0, 2, 1, 3)
        return self.out(attended.reshape(x.shape[0], self.heads * self.query.shape[-1]))


class ImageTower(nn.Module):
    """Normalised pixels [batch, 3, height, width] to unit vectors [batch, dimension]."""

    def __init__(self, model):
        super().__init__()
        visual = model.visual
        self.visual = visual
        # Which tokens make the vector: one, all but the first, or by CoCa's attention.
        self.pool = _pool_of(visual) if type(visual) is VisionTransformer and is_plain(visual.transformer) else None
        if self.pool is not None:
            self.blocks = blocks_of(visual.transformer, pooled=self.pool == "tok")
        if self.pool == "attention":
            self.attention_pool = AttentionPool(visual.attn_pool)

    def forward(self, image):
        image = image.to(_dtype(self))
        if self.pool is None:  # ResNets, timm's towers, other pools: OpenCLIP's own modules
            return unit(first(self.visual(image)))
        x = self.visual._embeds(image)
        for block in self.blocks[:-1] if self.pool == "tok" else self.blocks:
            x = block(x)
        if self.pool == "tok":
            x = self.visual.ln_post(self.blocks[-1](x, pooled=lambda tokens: tokens[:, :1])[:, 0])
        elif self.pool == "attention":
            x = self.visual.ln_post(self.attention_pool(x))
        elif self.visual.final_ln_after_pool:
            x = self.visual.ln_post(x[:, 1:].mean(1))
        else:
            x = self.visual.ln_post(x)[:, 1:].mean(1)
        return unit(x if self.visual.proj is None else x @ self.visual.proj)


def _pool_of(visual: VisionTransformer) -> str | None:
    if visual.attn_pool is None:
        return visual.pool_type if visual.pool_type in ("tok", "avg") else None
    return "attention" if visual.attn_pool_contrastive is None and visual.pool_type == "tok" else None


class TextTower(nn.Module):
    """Token ids [batch, tokens] to unit vectors [batch, dimension].

    Three kinds: OpenCLIP's own transformer; the same with CoCa's class token, which comes last; and everything else (Transformers'
    text towers, which make their mask of the ids), as OpenCLIP's own module.
    """

    def __init__(self, model, context_length: int = 77):
        super().__init__()
        # `CLIP` holds the parts of its text tower itself, `CustomTextCLIP` a `TextTransformer` or a `HFTextEncoder`.
        text = getattr(model, "text", model)
        self.context_length, self.any_length, self.whole = context_length, False, None
        if not (isinstance(text, TextTransformer) or text is model) or not is_plain(text.transformer):
            self.whole = text
            return
        self.cls, self.correct_cls_mask = getattr(text, "cls_emb", None), getattr(text, "correct_cls_mask", False)
        self.pool = "last" if self.cls is not None else getattr(text, "pool_type", None) or model.text_pool_type
        self.eos = getattr(text, "eos_id", None) or getattr(model, "text_eos_id", None)
        # Padding that no token sees; the ids tell which it is.
        self.masked = getattr(text, "pad_id", 0) if self.cls is not None or getattr(text, "use_pad_mask", False) else None
        self.embedding, self.positions, self.ln_final = text.token_embedding, text.positional_embedding, text.ln_final
        self.projection = text.text_projection
        self.register_buffer("mask", text.attn_mask)
        # A causal tower that is pooled at the end-of-text token never sees the padding behind it: any length that holds
        # the text gives the same vector. A tower that sees all tokens, or is pooled at the last one, has one length.
        self.any_length = self.mask is not None and self.masked is None and self.pool in ("argmax", "eos")
        self.blocks = blocks_of(text.transformer, pooled=self.any_length or self.pool == "last")

    def forward(self, text):
        if self.whole is not None:
            return unit(first(self.whole(text)))
        x = self.embedding(text)
        if self.cls is not None:
            x = torch.cat([x, self.cls.expand(x.shape[0], 1, -1)], 1)
        tokens = x.shape[1] if self.any_length else self.positions.shape[0]
        x = x + self.positions[:tokens]
        mask = self._mask(text, tokens, x.dtype)
        if self.any_length:
            end = text.argmax(-1) if self.pool == "argmax" else (text == self.eos).int().argmax(-1)

            def pooled(rows):
                # Of the mask [tokens, tokens] its row at each text's end, for all heads: [batch, 1, 1, tokens].
                if rows.ndim == 2:
                    return rows[end][:, None, None]
                return rows[torch.arange(rows.shape[0], device=rows.device), end][:, None]
        elif self.pool == "last":

            def pooled(rows):
                return rows[..., -1:, :]
        else:
            pooled = None
        for block in self.blocks if pooled is None else self.blocks[:-1]:
            x = block(x, mask)
        if pooled is None:
            x = text_global_pool(self.ln_final(x), text, self.pool, self.eos)
        else:
            x = self.ln_final(self.blocks[-1](x, mask, pooled)[:, 0])
        if isinstance(self.projection, nn.Linear):
            x = self.projection(x)
        elif self.projection is not None:
            x = x @ self.projection
        return unit(x)

    def _mask(self, text, tokens, dtype):
        """What is added to the scores: [tokens, tokens], or where it depends on the text [batch, 1, 1 or tokens, tokens]."""
        mask = None if self.mask is None else self.mask[:tokens, :tokens]
        if self.masked is None:
            return mask
        seen = text != self.masked
        if self.cls is not None:
            # OpenCLIP's mask of CoCa is one place off, which the checkpoints were trained with.
            one = torch.ones_like(seen[:, :1])
            seen = torch.cat([seen, one] if self.correct_cls_mask else [one, seen], 1)
        hidden = torch.zeros(1, dtype=dtype).masked_fill(~seen, float("-inf"))[:, None, None]
        return hidden if mask is None else mask + hidden


def first(output):
    """Without the tokens that some towers give as well."""
    return output[0] if isinstance(output, tuple) else output


def unit(vectors):
    return F.normalize(vectors.float(), dim=-1)


def _linear(weight, bias):
    linear = nn.Linear(*weight.shape[::-1], device="meta")
    linear.weight, linear.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    return linear


def _dtype(module):
    return next(module.parameters()).dtype
