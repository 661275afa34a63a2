"""A trained module made faster to ask: the same function up to rounding, never trained further and never stored."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def for_answers(module: nn.Module) -> nn.Module:
    """A copy with every BatchNorm that directly follows a convolution folded into it, in channels-last memory.

    `module` is in evaluation mode. In fp32 the logits differ by about 1e-6 from those of `module`.
    """
    found = copy.deepcopy(module)
    for block in [part for part in found.modules() if isinstance(part, nn.Sequential)]:
        for number, (first, second) in enumerate(pairwise(list(block))):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                block[number], block[number + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return found.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
