"""OpenCLIP's models, built without weights and without memory for them."""
import os

os.environ['HF_HUB_OFFLINE'] = '1'

import open_clip
import open_clip.factory
import torch
from openclip_export.activations import kinds

# Nothing is loaded, so nothing needs to be there.
open_clip.factory.download_pretrained = lambda *arguments, **options: '/nonexistent'


def text_is_downloaded(variant):
    """Whether the text tower's own configuration is not a part of OpenCLIP."""
    return bool(open_clip.get_model_config(variant)['text_cfg'].get('hf_model_name'))


def built(variant, tag):
    """The model as OpenCLIP makes it for a tag; a text tower that would be downloaded is another one's."""
    # As the weights were trained: OpenCLIP only warns where a variant's name does not say QuickGELU.
    quick = bool(open_clip.get_pretrained_cfg(variant, tag).get('quick_gelu'))
    configs = open_clip.factory._MODEL_CONFIGS
    saved = configs[variant]
    if text_is_downloaded(variant):
        stand_in = {'context_length': 77, 'vocab_size': 49408, 'width': 512, 'heads': 8, 'layers': 1}
        configs[variant] = {**saved, 'text_cfg': stand_in}
    try:
        with torch.device('meta'):
            return open_clip.factory.create_model(
                variant, pretrained=tag, load_weights=False, device='meta', force_quick_gelu=quick)
    finally:
        configs[variant] = saved


def activation(module):
    """The activation of a tower's perceptrons; None: it has none of the GELUs."""
    found = kinds(module)
    if len(found) > 1:
        raise SystemExit(f'{found}: a tower with several activations, which the table has no room for')
    return found.pop() if found else None
