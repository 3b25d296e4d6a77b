"""Trains the demo CLIP on the CPU: python train.py SECONDS [BATCH]    (the model in this repository: 3300 seconds)

Reads pictures.npz (prepare.py) and the concepts (concepts.py), writes checkpoint.pt. Needs torch, numpy, open_clip_torch (for its
tokenizer). The designs fluent3d (the demo's catalog) and openmoji are never trained on; they are what recall is measured on.
"""

import math
import random
import sys
import time

import numpy as np
import open_clip
import torch
import torch.nn as nn
import torch.nn.functional as F

from concepts import load_concepts
from model import MEAN, STD, ImageTower, TextTower

TRAINED_DESIGNS = ("noto", "twemoji", "flat", "modern")
HELD_OUT_DESIGNS = ("fluent3d", "openmoji")
LEARNING_RATE, WARM_UP_STEPS, WEIGHT_DECAY = 2e-3, 200, 0.1
LABEL_SMOOTHING = 0.05
SCALE_START, SCALE_MAX = 14.0, 100.0
# Bare names are drawn three times as often as any one phrase.
TEMPLATES = [
    "a picture of {}", "{} emoji", "an icon of {}", "a drawing of {}", "{}", "{}", "{}", "a photo of {}", "{} sticker",
]  # fmt: skip

tokenizer = open_clip.get_tokenizer("ViT-B-32")


def augment(rgba):
    """[n, 4, 96, 96] u8 -> normalised pixels with random background, rotation, scale, shift, saturation, contrast, brightness."""
    count = len(rgba)
    rgba = rgba.to(torch.bfloat16).float().mul_(1 / 255.0)
    rgba[:, :3] *= rgba[:, 3:]  # premultiplied, so that interpolation does not bleed colours of transparent pixels
    white = torch.rand(count, 1, 1, 1) < 0.5
    background = torch.where(white, torch.ones(count, 3, 1, 1), torch.rand(count, 3, 1, 1))
    angle, scale = (torch.rand(count) - 0.5) * 0.5, 1 + (torch.rand(count) - 0.4) * 0.6
    shift = (torch.rand(count, 2) - 0.5) * 0.25
    rows = [
        torch.stack([scale * angle.cos(), -scale * angle.sin(), shift[:, 0]], 1),
        torch.stack([scale * angle.sin(), scale * angle.cos(), shift[:, 1]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), rgba.shape, align_corners=False)
    rgba = F.grid_sample(rgba, grid, align_corners=False)
    rgb = rgba[:, :3] + (1 - rgba[:, 3:]) * background
    contrast = 1 + (torch.rand(count, 1, 1, 1) - 0.5) * 0.5
    brightness = (torch.rand(count, 1, 1, 1) - 0.5) * 0.2
    saturation = 1 + (torch.rand(count, 1, 1, 1) - 0.5) * 0.8
    gray = rgb.mean(1, keepdim=True)
    rgb = ((rgb - gray) * saturation + gray - 0.5) * contrast + 0.5 + brightness
    return (rgb.clamp_(0, 1) - MEAN) / STD


def random_caption(concept):
    """Mostly the name in some phrase; else the name with some of its tags, or tags alone."""
    label = concept["label"]
    tags = [tag for tag in concept["tags"] if tag != label]
    draw = random.random()
    if draw < 0.6 or not tags:
        return random.choice(TEMPLATES).format(label)
    if draw < 0.85:
        return ", ".join([label] + random.sample(tags, min(len(tags), random.randint(1, 3))))
    return ", ".join(random.sample(tags, min(len(tags), random.randint(2, 4))))


def token_ids(texts):
    """Cut after the longest text's end: the tower is causal, so padding would change nothing but the time."""
    ids = tokenizer(texts)
    return ids[:, : int(ids.argmax(1).max()) + 1]


def contrastive_loss(image_vectors, text_vectors, log_scale):
    logits = log_scale.exp().clamp(max=SCALE_MAX) * image_vectors @ text_vectors.t()
    own = torch.arange(len(image_vectors))
    to_text = F.cross_entropy(logits, own, label_smoothing=LABEL_SMOOTHING)
    to_image = F.cross_entropy(logits.t(), own, label_smoothing=LABEL_SMOOTHING)
    return (to_text + to_image) / 2


@torch.no_grad()
def recall(image_tower, text_tower, arrays, concepts, design):
    """Name to picture over one design, composed on white: recall at 1, 5 and 10."""
    image_tower.eval(), text_tower.eval()
    rgba = torch.from_numpy(arrays[f"{design}_pictures"]).float().permute(0, 3, 1, 2) / 255
    rgb = rgba[:, :3] * rgba[:, 3:] + (1 - rgba[:, 3:])
    pictures = torch.cat([image_tower((rgb[i : i + 256] - MEAN) / STD) for i in range(0, len(rgb), 256)])
    of_picture = torch.from_numpy(arrays[f"{design}_concepts"])
    wanted = sorted(set(of_picture.tolist()))
    names = [concepts[index]["label"] for index in wanted]
    queries = torch.cat([text_tower(token_ids(names[i : i + 256])) for i in range(0, len(names), 256)])
    best = (queries @ pictures.t()).argsort(dim=1, descending=True)[:, :10]
    hit = of_picture[best] == torch.tensor(wanted).unsqueeze(1)
    image_tower.train(), text_tower.train()
    return [round(hit[:, :k].any(1).float().mean().item(), 3) for k in (1, 5, 10)]


def main(budget_s, batch):
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    arrays, concepts = np.load("pictures.npz"), load_concepts()
    pictures, pictures_of = [], [[] for _ in concepts]
    for design in TRAINED_DESIGNS:
        for picture, concept in zip(arrays[f"{design}_pictures"], arrays[f"{design}_concepts"]):
            pictures_of[concept].append(len(pictures))
            pictures.append(picture)
    # A concept that only one design draws would teach that design's style rather than the thing.
    trainable = [index for index, own in enumerate(pictures_of) if len(own) >= 2]
    rgba = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()

    image_tower, text_tower = ImageTower(), TextTower()
    log_scale = nn.Parameter(torch.tensor(math.log(SCALE_START)))
    weights = [weight for tower in (image_tower, text_tower) for weight in tower.parameters()]
    groups = [{"params": weights}, {"params": [log_scale], "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)

    def print_recall(label):
        print(label, *(f"{d} {recall(image_tower, text_tower, arrays, concepts, d)}" for d in HELD_OUT_DESIGNS), flush=True)

    start, step, done = time.time(), 0, 0.0
    while done < 1:
        done = (time.time() - start) / budget_s
        # Linear warm-up, then a cosine down to 2 % by the end of the budget.
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, done)))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / WARM_UP_STEPS) * cosine
        drawn = random.sample(trainable, batch)
        pixels = augment(rgba[[random.choice(pictures_of[index]) for index in drawn]])
        ids = token_ids([random_caption(concepts[index]) for index in drawn])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image_vectors, text_vectors = image_tower(pixels), text_tower(ids)
        loss = contrastive_loss(image_vectors.float(), text_vectors.float(), log_scale)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            print("step", step, "seconds", round(time.time() - start), "loss", round(loss.item(), 3), flush=True)
        if step % 400 == 0:
            print_recall("  recall@1,5,10")
    print_recall(f"final, {step} steps, recall@1,5,10")
    torch.save({"image": image_tower.state_dict(), "text": text_tower.state_dict()}, "checkpoint.pt")


if __name__ == "__main__":
    main(budget_s=float(sys.argv[1]), batch=int(sys.argv[2]) if len(sys.argv) > 2 else 256)
