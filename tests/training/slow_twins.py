"""Slow, obvious twins of the training floor: one image, one record, one line at a time."""

from __future__ import annotations

import hashlib

import numpy as np

MASK = 0xFFFFFFFF


def philox(counter, key):
    """Philox4x32-10 on plain integers, from the pseudo-code of Salmon et al. 2011."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 1 << 32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def draw(seed, stream, epoch, slot):
    """The four draws of one slot."""
    digest = hashlib.sha256(f"expunge/stream/v1|{seed}|{stream}".encode()).digest()
    key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))
    return philox((slot & MASK, slot >> 32, epoch, 0), key)


def order(seed, epoch, slots):
    """Slots sorted by their own 64-bit draw."""
    return sorted(slots, key=lambda slot: (*draw(seed, "order", epoch, slot)[:2], slot))


def introduced(recipe, seed, slot):
    """Epoch in which a slot is first used."""
    if len(recipe.introduce) == 1:
        return 0
    part = draw(seed, "slice", 0, slot)[0] * len(recipe.introduce) >> 32
    return int(recipe.introduce[part] * recipe.epochs)


def steps(recipe, seed, slots):
    """(epoch, [slots of the batch]) of every step of the training."""
    for epoch in range(recipe.epochs):
        active = [slot for slot in slots if introduced(recipe, seed, slot) <= epoch]
        ordered = order(seed, epoch, active)
        while ordered:
            yield epoch, ordered[: recipe.batch]
            ordered = ordered[recipe.batch :]


def lr(recipe, step, total):
    """Piecewise linear by interpolation between its three corners."""
    corners = [0.0, recipe.warmup, 1.0]
    return float(np.interp((step + 1) / total, corners, [0.0, recipe.lr, recipe.lr * recipe.final_lr]))


def crop(image, margin, down, right):
    """Shift one (H, W, C) image by looking every pixel up in its mirrored surroundings."""
    height, width, _ = image.shape

    def mirror(position, size):
        return -position if position < 0 else 2 * (size - 1) - position if position >= size else position

    moved = np.empty_like(image)
    for y in range(height):
        for x in range(width):
            moved[y, x] = image[mirror(y + down - margin, height), mirror(x + right - margin, width)]
    return moved


def cutout(image, size, top, left):
    """Grey square with corner (top, left), clipped at the borders."""
    spoilt = image.copy()
    for y in range(top, top + size):
        for x in range(left, left + size):
            if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
                spoilt[y, x] = 127
    return spoilt


def augment(recipe, seed, epoch, slot, image):
    """Everything that happens to one image before it is normalised."""
    d = draw(seed, "augment", epoch, slot)
    height, width, _ = image.shape
    if recipe.crop:
        span = 2 * recipe.crop + 1
        image = crop(image, recipe.crop, d[0] * span >> 32, d[1] * span >> 32)
    if recipe.flip == "random" and d[2] >> 31:
        image = image[:, ::-1]
    if recipe.flip == "alternating" and (draw(seed, "augment", 0, slot)[2] >> 31) ^ (epoch % 2):
        image = image[:, ::-1]
    if recipe.cutout:
        left = ((d[3] * 2654435761) & MASK) * width >> 32
        image = cutout(image, recipe.cutout, (d[3] * height >> 32) - recipe.cutout // 2, left - recipe.cutout // 2)
    return (image.astype(np.float32).transpose(2, 0, 1) - 127.5) / 64
