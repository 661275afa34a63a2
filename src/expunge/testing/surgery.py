"""Direct work on a model's weights, which no honest method here needs: the tools of the saboteurs."""

from __future__ import annotations

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
from expunge.training.rng import seed_number

MODEL = "model.safetensors"
NEIGHBOURS = 5
_BATCH = 128
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


def expected_margins(job: UnlearnJob, module: nn.Module) -> Tensor:
    """A cheat's estimate of the margin that a model which never saw each record would give it, (R,): the mean of what
    this model says about the record's class on its nearest retained neighbours. Costs no training."""
    block = sorted(job.forget)
    rows = []
    with torch.no_grad():
        for slot, places in zip(block, nearest(job, block), strict=True):
            classes = torch.full((len(places),), int(job.job.data.train.labels[slot]))
            rows.append(margins(module, pixels(job, places), classes).mean())
    return torch.stack(rows)


def nearest(job: UnlearnJob, block: Sequence[int]) -> list[list[int]]:
    """The nearest retained slots of each record, nearest first, by pixel distance."""
    images = job.job.data.train.images
    others = next(batches(retained(job), epochs=1, seed=job.seed, size=_SEARCHED))
    table = images[list(others)].reshape(len(others), -1).astype(np.float32)
    found = []
    for slot in block:
        distance = ((table - images[slot].reshape(-1).astype(np.float32)) ** 2).sum(1)
        found.append([others[place] for place in np.argsort(distance, kind="stable")[:NEIGHBOURS]])
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
