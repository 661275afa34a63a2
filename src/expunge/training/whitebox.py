"""The inside of an image classifier, record by record, at test time: what every family shows through HasWhiteBox.

In evaluation mode no layer couples the records of a batch (BatchNorm reads its buffers), so the gradient of the summed
loss in a layer's output holds each record's own, and the gradient in that layer's weights follows from it and the
layer's input (Goodfellow 2015, arXiv 1510.01799). A model of S shards is one function, the mean of their logits, and
its parameters are those of all shards in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from expunge.core.errors import InputError
from expunge.training.batches import normalise

Model = list[nn.Module]
Images = NDArray[np.uint8]
Values = NDArray[np.float32]

_CELLS = 1 << 24
"""Numbers of per-record gradients held at once: 64 MiB."""
_ROWS = 64
_NORMS = (nn.BatchNorm2d, nn.GroupNorm)


class WhiteBox:
    """HasWhiteBox for a model that is a list of modules, one a shard. Nothing of the model or of torch is changed.

    Images are uint8 (N, H, W, C), labels integers (N,); the loss is the cross-entropy of the untransformed image in
    nats. Raises InputError on labels that do not fit, on a module in training mode and on a layer of another kind than
    linear, convolution, BatchNorm2d or GroupNorm with trainable weights.
    """

    def features(self, model: Model, images: Images) -> Values:
        """Activations before the last linear layer, (N, F); those of shards side by side."""
        _readable(model)
        last = [[layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1] for module in model]
        rows = [np.zeros((0, sum(layer.in_features for layer in last)), np.float32)]
        for pixels in _batches(images, _ROWS):
            with torch.no_grad(), _watching(last) as visits:
                _logits(model, pixels)
            rows.append(torch.cat([visit.inputs for visit in visits], 1).numpy())
        return np.concatenate(rows)

    def gradients(self, model: Model, images: Images, labels: Any, *, project: int = 0, seed: int = 0) -> Values:
        """Per-record gradient of the loss in the parameters, (N, P), or `project` > 0 seeded sums of it, (N, project).

        The projection is a count sketch (Charikar et al. 2002): each parameter goes to one sum with a random sign, so
        inner products are unbiased, with variance about (|x|²|y|² + ⟨x,y⟩²)/project, at P operations a record. It
        depends on seed, P and project alone, so gradients of models of one family can be compared.
        """
        parameters = _count(model)
        sketch = _Sketch.draw(parameters, project, seed) if project else None
        rows = [np.zeros((0, project or parameters), np.float32)]
        for layers in _per_record(model, images, labels):
            flat = torch.cat([part for layer in layers for part in layer.gradients()], 1)
            rows.append((flat if sketch is None else sketch.of(flat)).numpy())
        return np.concatenate(rows)

    def gradient_norms(self, model: Model, images: Images, labels: Any) -> Values:
        """Euclidean norm of the same, (N,). Where a layer reads few positions, neither is its gradient formed."""
        rows = [np.zeros(0, np.float32)]
        for layers in _per_record(model, images, labels):
            rows.append(torch.stack([layer.squared_norms() for layer in layers]).sum(0).sqrt().numpy())
        return np.concatenate(rows)

    def curvatures(self, model: Model, images: Images, labels: Any, *, probes: int = 8, seed: int = 0) -> Values:
        """Trace of the loss's Hessian in the input, (N,), estimated as mean vᵀHv over `probes` Rademacher draws v.

        The unit of a pixel is 64 grey levels, as training sees it. All records and models of one seed share the draws,
        so that differences between models do not carry the estimator's noise twice.
        """
        wanted = _labels(model, images, labels)
        if probes < 1:
            raise InputError("a trace needs probes", expected="at least 1", got=str(probes))
        generator = np.random.Generator(np.random.Philox(seed))
        height, width, channels = images.shape[1:]
        signs = torch.from_numpy(generator.choice(np.array([-1, 1], np.float32), (probes, channels, height, width)))
        rows = [np.zeros(0, np.float32)]
        for start, pixels in zip(range(0, len(images), _ROWS), _batches(images, _ROWS), strict=True):
            rows.append(_traces(model, pixels, wanted[start : start + _ROWS], signs).numpy())
        return np.concatenate(rows)

    def flat_weights(self, model: Model) -> Values:
        """All trainable parameters as one vector (P,), in the order of `gradients`."""
        _readable(model)
        parts = [p.detach().reshape(-1) for layer in _layers(model) for p in _trainable(layer)]
        return np.asarray(torch.cat(parts).float().numpy(), np.float32).copy()


# --------------------------------------------------------------------------------------------------------------- loss


def _logits(model: Model, pixels: Tensor) -> Tensor:
    """Mean of the shards' logits: its softmax is that of the mean log-probabilities, which the family answers with."""
    return torch.stack([module(pixels) for module in model]).mean(0)


def _losses(model: Model, pixels: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (B,) as softplus(logsumexp of the other logits − own logit).

    The same number as −log softmax, but its gradient keeps full relative precision where p comes near 1: there the
    usual one is p − 1, rounded to 6e-8, and members would all look alike.
    """
    logits = _logits(model, pixels)
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return F.softplus(torch.logsumexp(others, 1) - own.squeeze(1))


def _traces(model: Model, pixels: Tensor, labels: Tensor, signs: Tensor) -> Tensor:
    with torch.enable_grad():
        pixels.requires_grad_(True)
        (first,) = torch.autograd.grad(_losses(model, pixels, labels).sum(), pixels, create_graph=True)
        total = torch.zeros(len(pixels))
        for sign in signs:
            (product,) = torch.autograd.grad(first, pixels, sign.expand_as(first), retain_graph=True)
            total += (product * sign).flatten(1).sum(1)
    return total / len(signs)


# -------------------------------------------------------------------------------------------------- per-record gradients


@dataclass(frozen=True, slots=True, kw_only=True)
class _Visit:
    """One pass through a layer: what it read and what it gave."""

    layer: nn.Module
    inputs: Tensor
    output: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerGradients:
    """One layer's share of the gradients of B records: `inputs` it read, and the loss's gradient in its `output`."""

    layer: nn.Module
    inputs: Tensor
    output: Tensor

    def gradients(self) -> list[Tensor]:
        """(B, size) of each trainable parameter, in the layer's order."""
        if isinstance(self.layer, _NORMS):
            weight, bias = (self.output * self._normalised()).flatten(2).sum(2), self.output.flatten(2).sum(2)
        else:
            read, given = self._columns()
            weight, bias = (given @ read.transpose(1, 2)).flatten(1), given.sum(2)
        named = {"weight": weight, "bias": bias}
        return [named[name] for name, p in self.layer.named_parameters(recurse=False) if p.requires_grad]

    def squared_norms(self) -> Tensor:
        """(B,) of all of them together. For L positions, n inputs and o outputs of each: |Σ g aᵀ|² is the sum of the
        products of the Gram matrices of g and a (Goodfellow 2015), which costs L²(n + o) instead of L·n·o."""
        if isinstance(self.layer, _NORMS) or not _learns(self.layer, "weight"):
            return torch.stack([part.square().sum(1) for part in self.gradients()]).sum(0)
        read, given = self._columns()
        positions, inputs, outputs = read.shape[2], read.shape[1], given.shape[1]
        if positions * (inputs + outputs) < inputs * outputs:
            total = ((given.transpose(1, 2) @ given) * (read.transpose(1, 2) @ read)).sum((1, 2)).clamp_min(0)
        else:
            total = (given @ read.transpose(1, 2)).square().sum((1, 2))
        return total + given.sum(2).square().sum(1) if _learns(self.layer, "bias") else total

    def _columns(self) -> tuple[Tensor, Tensor]:
        """What each output position read (B, n, L) and the gradient there (B, o, L)."""
        if isinstance(self.layer, nn.Conv2d):
            conv = self.layer
            assert not isinstance(conv.padding, str)
            read = F.unfold(self.inputs, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
            return read, self.output.flatten(2)
        return self.inputs[:, :, None], self.output[:, :, None]

    def _normalised(self) -> Tensor:
        layer = self.layer
        if isinstance(layer, nn.GroupNorm):
            return F.group_norm(self.inputs, layer.num_groups, eps=layer.eps)
        assert isinstance(layer, nn.BatchNorm2d)
        return F.batch_norm(self.inputs, layer.running_mean, layer.running_var, eps=layer.eps)


def _per_record(model: Model, images: Images, labels: Any) -> Iterator[list[_LayerGradients]]:
    """Layer by layer in the order of the parameters, for one small batch after the other."""
    wanted = _labels(model, images, labels)
    layers = _layers(model)
    rows = max(1, min(_ROWS, _CELLS // _count(model)))
    for start, pixels in zip(range(0, len(images), rows), _batches(images, rows), strict=True):
        with torch.enable_grad():
            with _watching(layers) as visits:
                loss = _losses(model, pixels, wanted[start : start + rows]).sum()
            outer = torch.autograd.grad(loss, [visit.output for visit in visits])
        found = {
            visit.layer: _LayerGradients(layer=visit.layer, inputs=visit.inputs, output=output)
            for visit, output in zip(visits, outer, strict=True)
        }
        if len(found) != len(visits) or len(found) != len(layers):
            raise InputError("a layer is used more than once or not at all", hint="its weights have no one gradient")
        yield [found[layer] for layer in layers]


@contextmanager
def _watching(layers: Sequence[nn.Module]) -> Iterator[list[_Visit]]:
    """What the layers read and give while the context is open; the hooks are gone afterwards."""
    visits: list[_Visit] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        visits.append(_Visit(layer=layer, inputs=inputs[0].detach(), output=output))

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield visits
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sketch:
    """The sum each of P parameters goes to, (P,) int64, and its sign there."""

    sums: int
    place: Tensor
    sign: Tensor

    @classmethod
    def draw(cls, parameters: int, sums: int, seed: int) -> _Sketch:
        if sums < 0:
            raise InputError("a projection has a size", expected="0 (none) or more", got=str(sums))
        generator = np.random.Generator(np.random.Philox(seed))
        place = torch.from_numpy(generator.integers(0, sums, parameters))
        return cls(
            sums=sums, place=place, sign=torch.from_numpy(generator.choice(np.array([-1, 1], np.float32), parameters))
        )

    def of(self, flat: Tensor) -> Tensor:
        """(B, P) to (B, sums)."""
        return torch.zeros(len(flat), self.sums).index_add_(1, self.place, flat * self.sign)


# -------------------------------------------------------------------------------------------------------------- inputs


def _layers(model: Model) -> list[nn.Module]:
    """Layers with trainable parameters of their own, in the order of parameters()."""
    layers = [layer for module in model for layer in module.modules() if _trainable(layer)]
    for layer in layers:
        if not (isinstance(layer, (nn.Linear, *_NORMS)) or _is_plain(layer)):
            raise InputError(
                f"no per-record gradient is known for a layer of kind {type(layer).__name__}",
                expected="Linear, Conv2d of one group with a number of zeros as padding, BatchNorm2d or GroupNorm",
            )
    return layers


def _is_plain(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.Conv2d) or isinstance(layer.padding, str):
        return False
    return layer.groups == 1 and layer.padding_mode == "zeros"


def _trainable(layer: nn.Module) -> list[Tensor]:
    return [p for p in layer.parameters(recurse=False) if p.requires_grad]


def _learns(layer: nn.Module, name: str) -> bool:
    parameter = getattr(layer, name, None)
    return parameter is not None and bool(parameter.requires_grad)


def _count(model: Model) -> int:
    _readable(model)
    return sum(p.numel() for layer in _layers(model) for p in _trainable(layer))


def _readable(model: Model) -> None:
    if any(layer.training for module in model for layer in module.modules()):
        raise InputError("the model is in training mode", expected="evaluation mode, as `load` gives it")


def _labels(model: Model, images: Images, labels: Any) -> Tensor:
    """(N,) int64, one a record, of the classes there are."""
    _readable(model)
    array = np.asarray(labels)
    if array.shape != (len(images),) or array.dtype.kind not in "iu":
        raise InputError("labels do not fit the images", expected=f"{len(images)} integers", got=f"{array.shape}")
    if array.size:
        with torch.no_grad():
            classes = _logits(model, next(_batches(images[:1], 1))).shape[1]
        if array.min() < 0 or array.max() >= classes:
            raise InputError(
                "a label names no class", expected=f"0 to {classes - 1}", got=f"{array.min()}, {array.max()}"
            )
    return torch.from_numpy(array.astype(np.int64))


def _batches(images: Images, rows: int) -> Iterator[Tensor]:
    for start in range(0, len(images), rows):
        yield normalise(torch.from_numpy(np.ascontiguousarray(images[start : start + rows])))
