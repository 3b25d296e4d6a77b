"""Towers of models that others publish, as their exporters put them into graphs, for make_hub_fixtures.py."""

import timm
import torch
import torch.nn.functional as F
import transformers
from timm.models import register_model
from torch import nn

WIDTH = 16


@register_model
def fixture_siglip(pretrained=False, **kwargs):
    """timm's image tower of SigLIP: pooled by attention, GELU by tanh."""
    known = {key: value for key, value in kwargs.items() if key in ("img_size", "num_classes", "drop_path_rate", "patch_drop_rate") and value is not None}
    return timm.models.VisionTransformer(
        patch_size=8, embed_dim=WIDTH, depth=1, num_heads=2, class_token=False, global_pool=kwargs.get("global_pool", "map"), act_layer="gelu_tanh",
        **{"img_size": 32, **known},
    )  # fmt: skip


def unit(vectors):
    return F.normalize(vectors, dim=-1)


class OpenClip(nn.Module):
    """One of OpenCLIP's own towers, as Immich exports it."""

    def __init__(self, model, encode, normalize=True):
        super().__init__()
        self.model, self.encode, self.normalize = model, encode, normalize

    def forward(self, values):
        return getattr(self.model, self.encode)(values, normalize=self.normalize)


class Hidden(nn.Module):
    """A tower of Transformers as Optimum exports it without projection: all hidden states, and the pooled one."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, values):
        found = self.model(values)
        return found.last_hidden_state, found.pooler_output


class SiglipBoth(nn.Module):
    """`SiglipModel` as Optimum exports it: both towers, and their logits."""

    def __init__(self, text, vision):
        super().__init__()
        self.text, self.vision = text, vision
        self.scale, self.bias = nn.Parameter(torch.tensor(4.7)), nn.Parameter(torch.tensor(-12.0))

    def forward(self, input_ids, pixel_values):
        text, image = unit(self.text(input_ids).pooler_output), unit(self.vision(pixel_values).pooler_output)
        logits = text @ image.T * self.scale.exp() + self.bias
        return logits.T, logits, text, image


def encoder(kind, vocabulary, padding):
    """A text encoder of Transformers, as far as hidden states."""
    config = {
        "bert": transformers.BertConfig,
        "xlm-roberta": transformers.XLMRobertaConfig,
    }[kind](
        vocab_size=vocabulary, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=80,
        pad_token_id=padding, type_vocab_size=1, attn_implementation="eager",
    )  # fmt: skip
    return transformers.AutoModel.from_config(config, add_pooling_layer=False, attn_implementation="eager")


class MaskedMean(nn.Module):
    """Hidden states of all tokens but the padding, in the mean, and a projection. Without a mask of its own the padding is found by
    its id, as Jina's exports find it."""

    def __init__(self, transformer, padding, bias, normalize=False):
        super().__init__()
        self.transformer, self.padding, self.normalize = transformer, padding, normalize
        self.linear = nn.Linear(WIDTH, WIDTH, bias=bias)

    def forward(self, input_ids, attention_mask=None):
        mask = (input_ids != self.padding).long() if attention_mask is None else attention_mask
        hidden = self.transformer(input_ids=input_ids, attention_mask=mask)[0]
        found = self.linear((hidden * mask.unsqueeze(2)).sum(dim=1) / mask.sum(dim=1)[:, None])
        return unit(found) if self.normalize else found


class JinaBoth(nn.Module):
    """Jina CLIP v2: both towers in one graph, without logits, each also at unit length."""

    def __init__(self, text, image):
        super().__init__()
        self.text, self.image = text, image

    def forward(self, input_ids, pixel_values):
        text, image = self.text(input_ids), self.image(pixel_values)
        return text, image, unit(text), unit(image)
