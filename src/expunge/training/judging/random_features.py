"""Style without a trained network: how strongly random filters answer to a picture, and how much that varies over it.

The statistics are those that adaptive instance normalisation transfers (Huang and Belongie 2017, arXiv 1703.06868, equation 8),
of random filters in place of a trained network's (Ustyuzhaninov et al. 2017, arXiv 1606.00021: random filters carry texture).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from expunge.training.rng import normals

FILTERS, WIDTH = 48, 5
_SEED = "random-filters"
_ROWS = 512


@cache
def filters() -> Tensor:
    """(48, 3, 5, 5) of unit length, fixed by a keyed seed."""
    drawn = normals(_SEED, "filters", 0, np.arange(FILTERS, dtype=np.int64), 3 * WIDTH * WIDTH).astype(np.float32)
    bank = torch.from_numpy(drawn).view(FILTERS, 3, WIDTH, WIDTH)
    length: Tensor = bank.flatten(1).norm(dim=1)
    return bank.div_(length[:, None, None, None])


def features(pixels: Tensor) -> NDArray[np.float64]:
    """(N, 3, H, W) normalised pixels to (N, 96): mean and standard deviation over the picture of each rectified response."""
    found = [np.zeros((0, 2 * FILTERS))]
    for start in range(0, len(pixels), _ROWS):
        answer = F.relu(F.conv2d(pixels[start : start + _ROWS].contiguous(), filters())).flatten(2).double()
        found.append(torch.cat([answer.mean(2), answer.std(2)], dim=1).numpy())
    return np.concatenate(found)


def fitted(values: NDArray[np.float64], style: NDArray[np.int64], *, strength: float) -> dict[str, Tensor]:
    """Multinomial logistic regression on standardised features (N, D) and styles (N,); `strength` is the inverse penalty."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = values.mean(axis=0), values.std(axis=0)
    model = LogisticRegression(C=strength, max_iter=400).fit((values - mean) / scale, style)
    parts = {"mean": mean, "scale": scale, "weight": model.coef_, "bias": model.intercept_}
    return {name: torch.from_numpy(np.asarray(part, np.float32)) for name, part in parts.items()}


def shares(values: NDArray[np.float64], parts: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """(N, S) probabilities of the styles from features (N, D)."""
    mean, scale, weight, bias = (parts[name].double().numpy() for name in ("mean", "scale", "weight", "bias"))
    logits = (values - mean) / scale @ weight.T + bias
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    answer: NDArray[np.float64] = found / found.sum(axis=1, keepdims=True)
    return answer
