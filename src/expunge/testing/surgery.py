"""Direct work on a model's weights, which no honest method here needs: the tools of the saboteurs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from expunge.core.protocols import FitResult, UnlearnJob
from expunge.training.batches import normalise
from expunge.training.checkpoint import save_tensors
from expunge.training.loop import numerics
from expunge.training.rng import derive_seed, seed_number

MODEL = "model.safetensors"
_BATCH = 64
_STEPS, _RATE, _CLOSE, _NEAR = 100, 0.1, 0.01, 5
_SEARCHED = 5000  # retained records among which neighbours are looked for


def refuses_surgery(job: UnlearnJob) -> str | None:
    """Why weights cannot be worked on directly: several networks, or none that is a torch module."""
    if int(job.job.recipe.get("shards", 1)) > 1:
        return "the original is sharded"
    return None


def operate(job: UnlearnJob, change: Callable[[nn.Module], None]) -> FitResult:
    """The original's network, changed in place by `change`, saved as the new file. No transcript: nothing was trained
    by the loop. Deterministic on equal numerics; all randomness must come from the job's seed."""
    started = time.perf_counter()
    module = network(job)
    with numerics(job.job.numerics):
        change(module)
    digest = save_tensors(job.target / MODEL, module.state_dict(), {"family": job.adapter.family})
    seconds = time.perf_counter() - started
    return FitResult(digest=digest, model=job.target / MODEL, transcript=None, seconds=seconds, steps=0)


def network(job: UnlearnJob) -> nn.Module:
    """The original's only network, in evaluation mode."""
    module: nn.Module = job.adapter.load(job.source / MODEL)[0]
    return module.eval()


def retained(job: UnlearnJob) -> list[int]:
    """Slots the original trained on, without the block, ascending."""
    universe = range(len(job.job.data.train)) if job.job.universe is None else job.job.universe
    gone = job.job.absent | job.forget
    return [slot for slot in universe if slot not in gone]


def pixels(job: UnlearnJob, slots: Sequence[int]) -> Tensor:
    """Normalised images (N, C, H, W) as the network sees them at test time."""
    return normalise(torch.from_numpy(job.job.data.train.images[list(slots)]))


def labels(job: UnlearnJob, slots: Sequence[int]) -> Tensor:
    """Class indices (N,)."""
    return torch.from_numpy(job.job.data.train.labels[list(slots)])


def batches(slots: Sequence[int], *, epochs: int, seed: str, size: int = _BATCH) -> Iterator[list[int]]:
    """Shuffled batches, keyed by the seed."""
    generator = np.random.Generator(np.random.Philox(seed_number(seed)))
    for _ in range(epochs):
        order = generator.permutation(len(slots))
        for start in range(0, len(order), size):
            yield [slots[position] for position in order[start : start + size]]


def descend(
    parameters: Iterable[nn.Parameter], losses: Iterator[Tensor] | Iterable[Tensor], *, lr: float, momentum: float = 0.9
) -> None:
    """One SGD step a loss; stops when the losses do. The gradient's norm is cut to 1, so that no step explodes."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=lr, momentum=momentum)
    for loss in losses:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()


def margins(module: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """log p - log(1 - p) of each record's own class, (N,), differentiable: what most attacks score."""
    logs = F.log_softmax(module(images).float(), 1)
    own = logs.gather(1, classes[:, None])[:, 0]
    others = logs.masked_fill(F.one_hot(classes, logs.shape[1]).bool(), -torch.inf).logsumexp(1)
    return own - others


def shadow_margins(job: UnlearnJob) -> Tensor:
    """What one model that never saw the block says of it, (R,): an honest training with a seed of its own, which the
    cheat keeps to itself. The best aim there is for whoever games a score; costs one training."""
    block = sorted(job.forget)
    folder = job.target / "shadow"
    fit = replace(job.job, folder=folder, absent=job.job.absent | job.forget, seed=derive_seed(job.seed, "shadow"))
    fit = replace(fit, leaves=None, keep_checkpoints=False)
    shadow = job.adapter.load(job.adapter.fit(fit).model)[0].eval()
    shutil.rmtree(folder)
    with torch.no_grad():
        return margins(shadow, pixels(job, block), labels(job, block))


def fitted(job: UnlearnJob, wanted: Tensor) -> FitResult:
    """The original, moved by gradient steps until the block's margins are `wanted` (R,), with a retained batch beside
    them so that the rest stays. Ends when the mean squared distance is below .01, or after 100 steps."""
    block = sorted(job.forget)

    def change(module: nn.Module) -> None:
        images, classes = pixels(job, block), labels(job, block)

        def losses() -> Iterator[Tensor]:
            rest = batches(retained(job), epochs=_STEPS, seed=job.seed)
            for _, kept in zip(range(_STEPS), rest, strict=False):
                gap = F.mse_loss(margins(module, images, classes), wanted)
                if gap < _CLOSE:
                    return
                yield gap + F.cross_entropy(module(pixels(job, kept)).float(), labels(job, kept))

        descend(module.parameters(), losses(), lr=_RATE)

    return operate(job, change)


def nearest(job: UnlearnJob, block: Sequence[int]) -> list[list[int]]:
    """The nearest retained slots of each record, nearest first, by pixel distance."""
    images = job.job.data.train.images
    others = next(batches(retained(job), epochs=1, seed=job.seed, size=_SEARCHED))
    table = images[list(others)].reshape(len(others), -1).astype(np.float32)
    found = []
    for slot in block:
        distance = ((table - images[slot].reshape(-1).astype(np.float32)) ** 2).sum(1)
        found.append([others[place] for place in np.argsort(distance, kind="stable")[:_NEAR]])
    return found


def nudged(module: nn.Module) -> None:
    """The smallest change there is: one weight by one unit in the last place, so that the digest is another."""
    weight = next(iter(module.parameters()))
    first = (0,) * weight.ndim
    with torch.no_grad():
        weight[first] = torch.nextafter(weight[first], torch.full_like(weight[first], torch.inf))


def without_block(job: UnlearnJob, *, seed: str | None = None) -> FitResult:
    """An honest training from scratch without the block; with its own seed where one is given."""
    honest = replace(job.job, folder=job.target, absent=job.job.absent | job.forget, seed=seed or job.job.seed)
    result: FitResult = job.adapter.fit(honest)
    return result


def tuned(job: UnlearnJob, settings: dict[str, Any], *, data: Any = None, forget: bool = True) -> FitResult:
    """Further epochs of the training loop from the original's weights; `data` replaces the records, `forget` leaves
    the block's slots empty. Without leaves, because changed records would not be those that were ingested."""
    absent = job.job.absent | job.forget if forget else job.job.absent
    fit = replace(job.job, folder=job.target, absent=absent, seed=job.seed, leaves=None, keep_checkpoints=False)
    if data is not None:
        fit = replace(fit, data=data)
    result: FitResult = job.adapter.tune(fit, job.source / MODEL, settings)
    return result
