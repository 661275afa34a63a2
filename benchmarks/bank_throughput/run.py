"""Training a bank: images per CPU second against a plain one-by-one fp32 NCHW loop that trains the same models.

    python benchmarks/bank_throughput/run.py --data CIFAR10_FOLDER        (--only bank|grouping to run a part)

`bank`: a bank of 2 pairs of ResNet-9 (width 16), built by `process://?n=2` as `expunge bank` builds it, against the
loop most tutorials write, with one thread and with two. The recipe is that of the CIFAR-10 bank as it ships. All of
them train on the same halves with the same epochs, batch, rate schedule, crop and flip, and answer on the same records,
because answers are what a bank is for. CPU seconds of the child processes count everything: start, imports, decoding,
training, answers. The bank's precision is the one `expunge init` chooses on this machine.
`grouping`: several models in one network (bmm for the digits MLP, grouped convolutions for ResNet-9) against one by
one, on one thread, training steps only.
`decoding`: what it costs a worker to decode the data once, against one training.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
import torch
from recorded import record_parts
from torch import nn
from torch.nn import functional as F  # noqa: N812

from expunge.core import registry
from expunge.core.codec import encode
from expunge.core.plan import Compute
from expunge.farm.bank import Bank, BankSpec
from expunge.farm.opened import open_data
from expunge.training.precision import suited
from expunge.training.recipe import load_recipe
from expunge.training.rng import derive_seed, seed_number

HERE = Path(__file__).parent
RECIPE, PAIRS = load_recipe("cifar10-w16"), 2
EPOCHS, BATCH = RECIPE.epochs, RECIPE.batch


def spec_of(data: str, records: int) -> BankSpec:
    plain = suited(RECIPE)[0].model_dump()
    named = {"source": "cifar10", "options": {"path": data, "limit": records}}
    return BankSpec(recipe=encode(plain), data=named, seed="throughput", pairs=PAIRS)


# ------------------------------------------------------------------------------------------------------- the two loops


def plain_model(data: object, slots: np.ndarray, recipe: object, number: int) -> tuple[float, float]:
    """Train and answer as the loop most tutorials write does; returns accuracy and the answers' mean."""
    adapter = registry.load("models", "resnet")(recipe, classes=10, shape=(32, 32, 3))
    seed = seed_number(derive_seed("throughput", "plain", number))
    net = adapter.module(torch.Generator().manual_seed(seed)).train()
    train, test = data.train, data.test  # type: ignore[attr-defined]
    images = (torch.from_numpy(train.images).permute(0, 3, 1, 2).float() - 127.5).div_(64)
    labels, mine = torch.from_numpy(train.labels), torch.from_numpy(slots)
    decayed = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": RECIPE.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=RECIPE.lr, momentum=RECIPE.momentum, nesterov=True)
    total = EPOCHS * -(-len(mine) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / total / 0.25, (1 - (step + 1) / total) / 0.75)
    )
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(mine), generator=generator).split(BATCH):
            rows = mine[part]
            x = F.pad(images[rows], (4,) * 4, mode="reflect")
            down, right = torch.randint(0, 9, (2,), generator=generator).tolist()
            x = x[:, :, down : down + 32, right : right + 32]
            flips = torch.rand(len(rows), generator=generator) < 0.5
            x = torch.where(flips[:, None, None, None], x.flip(3), x)
            loss = F.cross_entropy(net(x), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        own = torch.cat([net(part).log_softmax(1) for part in images.split(500)])
        pixels = (torch.from_numpy(test.images).permute(0, 3, 1, 2).float() - 127.5).div_(64)
        logs = torch.cat([net(part).log_softmax(1) for part in pixels.split(500)])
    accuracy = (logs.argmax(1).numpy() == test.labels).mean()
    return float(accuracy), float(own[torch.arange(len(own)), labels].mean())


def plain_bank(spec: BankSpec, folder: Path, threads: int) -> list[float]:
    """All models of the bank, one after the other in one process."""
    torch.set_num_threads(threads)
    data = open_data(spec.data)
    bank = Bank(spec, folder, [f"block-{slot}" for slot in range(len(data.train))])
    rows = bank.inside()
    return [plain_model(data, np.flatnonzero(row), RECIPE, number)[0] for number, row in enumerate(rows)]


def our_bank(spec: BankSpec, folder: Path) -> list[float]:
    """As `expunge bank` does it: one process per core, and the parent decodes the data for all of them."""
    data = open_data(spec.data)
    bank = Bank(spec, folder, [f"block-{slot}" for slot in range(len(data.train))])
    bank.build("process", Compute(processes=2))
    return [float(value) for value in bank.sketches().correct.mean(1)]


def in_a_child(arm: str, data: str, records: int) -> dict[str, object]:
    """One arm in a process of its own; CPU seconds of it and of everything it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    command = [sys.executable, __file__, "--data", data, "--records", str(records), "--arm", arm]
    # The arm waits for its workers, so their CPU seconds are in its own account when it ends.
    # Threads as a user has them: what an outer shell says about OpenMP is not part of the comparison.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    accuracy = json.loads(out.splitlines()[-1])
    images = 2 * PAIRS * (records // 2) * EPOCHS
    return {
        "accuracy": [round(value, 4) for value in accuracy],
        "accuracy_mean": round(float(np.mean(accuracy)), 4),
        "accuracy_se": round(float(np.std(accuracy, ddof=1) / len(accuracy) ** 0.5), 4),
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(time.monotonic() - started, 1),
        "images": images,
        "images_per_cpu_second": round(images / cpu, 1),
    }


def compare(data: str, records: int) -> dict[str, object]:
    arms = {}
    for arm in ("bank", "plain-1", "plain-2"):
        arms[arm] = in_a_child(arm, data, records)
        print(arm, arms[arm], flush=True)
    mine = float(arms["bank"]["images_per_cpu_second"])  # type: ignore[arg-type]
    ratios = {
        arm: round(mine / float(arms[arm]["images_per_cpu_second"]), 3)  # type: ignore[arg-type]
        for arm in ("plain-1", "plain-2")
    }
    return {"records": records, "n_models": 2 * PAIRS, "epochs": EPOCHS, "batch": BATCH, "arms": arms, "ratio": ratios}


# ------------------------------------------------------------------------------------------------------------ grouping


def mlp_steps(models: int, steps: int = 150) -> dict[str, object]:
    """The digits MLP (64-96-10, batch 64): modules one by one with fused SGD, and bmm over all of them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(models, steps, 64, 64, generator=generator)
    y = torch.randint(0, 10, (models, steps, 64), generator=generator)

    def fresh(number: int) -> nn.Sequential:
        own = torch.Generator().manual_seed(number)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
        for layer in (net[1], net[3]):
            nn.init.kaiming_normal_(layer.weight, generator=own)
            nn.init.zeros_(layer.bias)
        return net

    def alone(number: int) -> nn.Sequential:
        net = fresh(number)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, fused=True)
        for step in range(steps):
            loss = F.cross_entropy(net(x[number, step]), y[number, step], reduction="sum") / 64
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        return net

    started = time.process_time()
    nets = [alone(number) for number in range(models)]
    one_by_one = time.process_time() - started
    named = [dict(fresh(number).named_parameters()) for number in range(models)]
    stacked = [torch.stack([net[name].detach() for net in named]).requires_grad_() for name in named[0]]
    optimiser = torch.optim.SGD(stacked, lr=0.05, momentum=0.9, nesterov=True, fused=True)
    started = time.process_time()
    for step in range(steps):
        hidden = F.relu(torch.baddbmm(stacked[1][:, None], x[:, step], stacked[0].transpose(1, 2)))
        logits = torch.baddbmm(stacked[3][:, None], hidden, stacked[2].transpose(1, 2))
        loss = F.cross_entropy(logits.reshape(-1, 10), y[:, step].reshape(-1), reduction="sum") / 64
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    batched = time.process_time() - started
    identical = sum(
        all(torch.equal(s[number], p) for s, p in zip(stacked, net.parameters(), strict=True))
        for number, net in enumerate(nets)
    )
    return {
        "models": models,
        "steps": steps,
        "one_by_one_cpu_seconds_per_model": round(one_by_one / models, 4),
        "batched_cpu_seconds_per_model": round(batched / models, 4),
        "ratio": round(one_by_one / batched, 3),
        "bit_identical_models": identical,
    }


class Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def grouped_resnet9(models: int, width: int = 16) -> nn.Sequential:
    """`models` ResNet-9 trunks side by side as grouped convolutions; BatchNorm is per channel and needs no change."""

    def block(inputs: int, outputs: int, pool: bool) -> list[nn.Module]:
        conv = nn.Conv2d(models * inputs, models * outputs, 3, 1, 1, bias=False, groups=models)
        return [conv, nn.BatchNorm2d(models * outputs), nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]

    return nn.Sequential(
        *block(3, width, False),
        *block(width, 2 * width, True),
        Residual(*block(2 * width, 2 * width, False), *block(2 * width, 2 * width, False)),
        *block(2 * width, 4 * width, True),
        *block(4 * width, 8 * width, True),
        Residual(*block(8 * width, 8 * width, False), *block(8 * width, 8 * width, False)),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )


def resnet_rate(models: int, channels_last: bool, batch: int = 128, steps: int = 3) -> float:
    """Images per CPU second of forward and backward, counting every model's images."""
    net = grouped_resnet9(models).train()
    x = torch.randn(batch, 3 * models, 32, 32)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.to(memory_format=torch.channels_last)
    net(x).square().mean().backward()
    started = time.process_time()
    for _ in range(steps):
        net(x).square().mean().backward()
    return batch * models * steps / (time.process_time() - started)


def grouping() -> dict[str, object]:
    torch.set_num_threads(1)
    mlp = [mlp_steps(models) for models in (4, 16, 32)]
    resnet = []
    for channels_last in (False, True):
        rates = {models: round(resnet_rate(models, channels_last), 1) for models in (1, 2, 4)}
        layout = "NHWC" if channels_last else "NCHW"
        resnet.append({"layout": layout, "precision": "fp32", "images_per_cpu_second_by_models": rates})
    found: dict[str, object] = {"digits_mlp": mlp, "resnet9_w16": resnet}
    print(found, flush=True)
    return found


def decoding(data: str) -> dict[str, object]:
    """CPU seconds to open the whole of CIFAR-10 once, as every worker does."""
    started = time.process_time()
    opened = registry.load("data", "cifar10")(path=data).open()
    found = {"records": len(opened.train) + len(opened.test), "cpu_seconds": round(time.process_time() - started, 2)}
    print(found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--records", type=int, default=12_000)
    parser.add_argument("--only", choices=("bank", "grouping", "decoding"))
    parser.add_argument("--arm", choices=("bank", "plain-1", "plain-2"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        with tempfile.TemporaryDirectory() as folder:
            spec = spec_of(options.data, options.records)
            threads = int(options.arm[-1]) if options.arm != "bank" else 0
            found = our_bank(spec, Path(folder)) if not threads else plain_bank(spec, Path(folder), threads)
        print(json.dumps(found))
        return
    parts = {
        "decoding": lambda: decoding(options.data),
        "grouping": grouping,
        "bank": lambda: {"precision": spec_of("", 100).recipe["precision"], **compare(options.data, options.records)},
    }
    command = "python benchmarks/bank_throughput/run.py --data CIFAR10_FOLDER"
    record_parts(HERE / "result.json", command, parts, options.only)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
