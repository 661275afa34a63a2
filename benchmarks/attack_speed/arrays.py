"""The arrays every case runs on: simulated classifiers, written once to a folder as plain npy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

RECORDS, POPULATION, CLASSES, MODELS = 50_000, 10_000, 10, 16
MANY_RECORDS, MANY_MODELS = 1_000_000, 64
GAP = 1.0


def make(folder: Path) -> None:
    """`small`: logits of 16 references and a target on 50,000 records and 10,000 unseen ones, true class 0, and from
    them log-probabilities; every record is in half of the references. `many`: 1,000,000 x 64 log-probabilities."""
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    member = _halves(rng, MODELS, RECORDS)
    trained = rng.random(RECORDS) < 0.5
    level, unseen = rng.normal(3, 2, RECORDS), rng.normal(3, 2, POPULATION)
    logits = np.stack([_logits(rng, level + GAP * seen) for seen in [*member, trained]])
    unseen_logits = np.stack([_logits(rng, unseen) for _ in range(MODELS + 1)])
    save = {
        "logits": logits,
        "reference": true_class(logits[:-1]),
        "target": true_class(logits[-1:]),
        "reference_population": true_class(unseen_logits[:-1]),
        "target_population": true_class(unseen_logits[-1:]),
        "member": member,
        "trained": trained,
    }
    for name, array in save.items():
        np.save(folder / f"{name}.npy", array)
    _many(folder, rng)
    (folder / "done").write_text("")


def true_class(logits: np.ndarray) -> np.ndarray:
    """Log-softmax of class 0, (models, records)."""
    top = logits.max(axis=2, keepdims=True)
    return (logits[..., :1] - top - np.log(np.exp(logits - top).sum(axis=2, keepdims=True)))[..., 0]


def _logits(rng: np.random.Generator, margin: np.ndarray) -> np.ndarray:
    """float32 (N, 10) whose true class leads by `margin` with noise."""
    logits = rng.standard_normal((margin.size, CLASSES), dtype=np.float32)
    logits[:, 0] += margin.astype(np.float32)
    return logits


def _halves(rng: np.random.Generator, models: int, records: int) -> np.ndarray:
    """Complement pairs: model 2k + 1 trains on what model 2k does not."""
    coins = rng.random((models // 2, records)) < 0.5
    return np.stack([coins, ~coins], axis=1).reshape(models, records)


def _many(folder: Path, rng: np.random.Generator) -> None:
    shape = (MANY_MODELS, MANY_RECORDS)
    member = np.lib.format.open_memmap(folder / "many_member.npy", "w+", np.bool_, shape)
    reference = np.lib.format.open_memmap(folder / "many_reference.npy", "w+", np.float32, shape)
    target = np.lib.format.open_memmap(folder / "many_target.npy", "w+", np.float32, (1, MANY_RECORDS))
    level = rng.normal(2, 2, MANY_RECORDS).astype(np.float32)

    def answers(seen: np.ndarray) -> np.ndarray:
        return -np.logaddexp(0, -(level + seen + rng.standard_normal(MANY_RECORDS, dtype=np.float32)))

    for pair in range(MANY_MODELS // 2):
        coins = rng.random(MANY_RECORDS) < 0.5
        member[2 * pair], member[2 * pair + 1] = coins, ~coins
        reference[2 * pair], reference[2 * pair + 1] = answers(coins), answers(~coins)
    trained = rng.random(MANY_RECORDS) < 0.5
    target[0] = answers(trained)
    np.save(folder / "many_trained.npy", trained)
    unseen = rng.normal(2, 2, POPULATION) + rng.standard_normal((MANY_MODELS + 1, POPULATION))
    np.save(folder / "many_population.npy", -np.logaddexp(0, -unseen))
