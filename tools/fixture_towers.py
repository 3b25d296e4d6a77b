"""Towers as other exporters have them, for make_model_fixtures.py: inputs, outputs and what is normalised differ from ours."""

import copy

import torch
from torch import nn

from openclip_export.towers import TextTower, blocks_of, unit


class Picture(nn.Module):
    """As `CLIPVisionModelWithProjection`: the vector as the projection gives it, and maybe the hidden states."""

    def __init__(self, exported, hidden=False):
        super().__init__()
        self.visual, self.hidden = exported.model.visual, hidden
        self.blocks = blocks_of(self.visual.transformer, pooled=False)

    def forward(self, pixel_values):
        x = self.visual._embeds(pixel_values)
        for block in self.blocks:
            x = block(x)
        vector = self.visual.ln_post(x[:, 0]) @ self.visual.proj
        return (vector, x) if self.hidden else vector


class Text(nn.Module):
    """As `CLIPTextModelWithProjection`, with or without an attention mask; padding is masked besides the causal mask."""

    def __init__(self, exported, hidden=False):
        super().__init__()
        self.model, self.hidden = exported.model, hidden
        self.blocks = blocks_of(self.model.transformer, pooled=False)

    def forward(self, input_ids, attention_mask=None):
        tokens = input_ids.shape[1]
        x = self.model.token_embedding(input_ids) + self.model.positional_embedding[:tokens]
        mask = self.model.attn_mask[:tokens, :tokens]
        if attention_mask is not None:
            mask = mask + (1 - attention_mask.float())[:, None, None] * -1e9
        for block in self.blocks:
            x = block(x, mask)
        x = self.model.ln_final(x)
        vector = x[torch.arange(x.shape[0]), input_ids.int().argmax(-1)] @ self.model.text_projection
        return (vector, x) if self.hidden else vector


class Both(nn.Module):
    """As `CLIPModel`: one graph of both towers, and how well each picture fits each text."""

    def __init__(self, exported):
        super().__init__()
        self.picture, self.text, self.scale = Picture(exported), Text(exported), exported.model.logit_scale

    def forward(self, input_ids, pixel_values, attention_mask):
        text, image = unit(self.text(input_ids, attention_mask)), unit(self.picture(pixel_values))
        logits = self.scale.exp() * text @ image.T
        return logits.T, logits, text, image


class LastToken(TextTower):
    """SigLIP's text tower: every token sees every other, the last one is the vector. Exported with a free length, which it
    must not be run at: padding is part of what it was trained on."""

    def __init__(self, model):
        super().__init__(model)
        self.blocks = blocks_of(getattr(model, "text", model).transformer, pooled=False)

    def forward(self, text):
        x = self.embedding(text) + self.positions[: text.shape[1]]
        for block in self.blocks:
            x = block(x)
        return unit(self.ln_final(x)[:, -1] @ self.projection)


class WithAttentionOperator(nn.Module):
    """OpenCLIP's own modules: PyTorch's attention becomes ONNX's operator `Attention` from operator set 23 on."""

    def __init__(self, exported, encode):
        super().__init__()
        self.model, self.encode = exported.model, encode

    def forward(self, values):
        return getattr(self.model, self.encode)(values, normalize=True)


class Half(nn.Module):
    """A tower that computes in fp16 between fp32 pixels and vectors; with `io`, between fp16 ones."""

    def __init__(self, tower, io=False):
        super().__init__()
        self.tower, self.io = copy.deepcopy(tower).half(), io

    def forward(self, values):
        vectors = self.tower(values.half() if values.is_floating_point() else values)
        return vectors.half() if self.io else vectors.float()
