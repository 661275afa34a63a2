"""What the near-duplicate search finds and what it links wrongly, on CIFAR-10 and on digits.

    python benchmarks/linkage/run.py --data FOLDER --work FOLDER [--queries 1500] [--tests 750] [--out result.json]
    python benchmarks/linkage/run.py --data FOLDER --work FOLDER --timing

A workspace is made in --work (for CIFAR-10 a ResNet-9 of width 8 is trained for 3 epochs, because its features vote)
and kept for the next run. `--timing` measures CPU seconds only, and is run alone. Linked pairs are written as a contact
sheet beside it, for a person; `judged.json` lists the pairs that show different pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from expunge import Workspace
from expunge.data._near import Wanted, indexed, matches, wanted
from expunge.data._twins import TWINS
from expunge.stats.intervals import clopper_pearson
from expunge.training.recipe import load_recipe, parse_recipe
from expunge.workflow.intake import resolve
from expunge.workflow.linkage import FEATURES, PLANTED, Searcher, search

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hardware import hardware

HERE = Path(__file__).parent
SEED = 7
RECIPES = {
    "cifar10": {"base": "cifar10-w16", "epochs": 3, "precision": "fp32", "model": {"depth": 9, "width": 8}},
    "digits": {"base": "digits"},
}


def share(hits: int, trials: int) -> dict[str, Any]:
    bounds = clopper_pearson(hits, trials)
    return {
        "hits": hits,
        "n": trials,
        "share": round(hits / trials, 5),
        "cp95": [round(bounds.low or 0, 5), round(bounds.high or 0, 5)],
    }


def workspace(source: str, folder: Path, data: str | None) -> Workspace:
    """The kept workspace, or a new one with a trained model."""
    if (folder / "expunge.toml").exists():
        return Workspace.open(folder)
    settings = dict(RECIPES[source])
    recipe = parse_recipe({**load_recipe(str(settings.pop("base"))).model_dump(), **settings})
    options = {"canaries": 0} if source == "digits" else {}
    config = {"data": {"source": source, "path": data, "options": options}, "model": {"seed": "11" * 16}}
    made = Workspace.create(folder, config=config, recipe=recipe)
    made.train()
    return made


def cpu(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    start, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, {
        "cpu_s": round(time.process_time() - start, 3),
        "wall_s": round(time.perf_counter() - wall, 3),
    }


def without_features(searcher: Searcher) -> Searcher:
    """The same search by hash and pixels alone."""
    keep = {name: table for name, table in searcher.index.embeddings.items() if name != FEATURES}
    agree = {name: value for name, value in searcher.rule.agree.items() if name != FEATURES}
    return replace(
        searcher,
        index=replace(searcher.index, embeddings=keep),
        embed={name: of for name, of in searcher.embed.items() if name != FEATURES},
        rule=replace(searcher.rule, agree=agree),
    )


def recall(searchers: dict[str, Searcher], images: Any, rows: Any) -> dict[str, Any]:
    """By kind of twin, and with the roles changed: the request names the crop, the whole picture is kept."""
    generator = np.random.Generator(np.random.Philox(SEED))
    found: dict[str, dict[str, int]] = {name: {} for name in searchers}
    for slot in rows:
        for kind in (*TWINS, "whole picture of a requested crop"):
            make = TWINS.get(kind, TWINS["cropped"])
            twin = make(images[slot], generator)
            kept, asked = (twin, images[slot]) if kind in TWINS else (images[slot], twin)
            for name, searcher in searchers.items():
                hit = len(matches(indexed(kept[None], searcher.embed), wanted(asked, searcher.embed), searcher.rule))
                found[name][kind] = found[name].get(kind, 0) + hit
    return {name: {kind: share(hits, len(rows)) for kind, hits in kinds.items()} for name, kinds in found.items()}


def links(searcher: Searcher, images: Any, rows: Any, offset: int) -> list[tuple[int, int]]:
    """(row, linked row) of every record of `rows`; `offset` is where the rows' split begins in the index."""
    pairs = []
    for row in rows:
        one: Wanted = wanted(images[row], searcher.embed)
        pairs += [
            (offset + int(row), int(hit)) for hit in matches(searcher.index, one, searcher.rule) if hit != offset + row
        ]
    return pairs


def linked(
    pairs: list[tuple[int, int]], queries: int, split: int, labels: Any, judged: Any, names: Any
) -> dict[str, Any]:
    """Shares of the queries that are linked: at all, with each split, with another class, with a different picture."""
    wrong = {frozenset(pair) for pair in judged}
    seen = {row: [hit for one, hit in pairs if one == row] for row, _ in pairs}
    different = {row: [h for h in hits if frozenset((names[row], names[h])) in wrong] for row, hits in seen.items()}
    return {
        "pairs": len(pairs),
        "linked": share(len(seen), queries),
        "linked within train": share(sum(any(h < split for h in hits) for hits in seen.values()), queries),
        "linked with test": share(sum(any(h >= split for h in hits) for hits in seen.values()), queries),
        "linked with another class": share(
            sum(any(labels[h] != labels[row] for h in hits) for row, hits in seen.items()), queries
        ),
        "linked with a different picture, by eye": share(sum(bool(hits) for hits in different.values()), queries),
        "linked with the same picture, by eye": share(
            sum(len(different[row]) < len(hits) for row, hits in seen.items()), queries
        ),
    }


def contact_sheet(pairs: list[tuple[int, int]], images: Any, file: Path) -> None:
    """Ten pairs a row, in the order of the list."""
    from PIL import Image

    cells = [np.pad(np.concatenate([images[a], images[b]], 1), ((2, 2), (2, 2), (0, 0))) for a, b in pairs]
    if not cells:
        return
    cells += [np.zeros_like(cells[0])] * (-len(cells) % 10)
    sheet = np.concatenate([np.concatenate(cells[k : k + 10], 1) for k in range(0, len(cells), 10)])
    picture = Image.fromarray(sheet if sheet.shape[2] == 3 else sheet[..., 0])
    picture.resize((2 * picture.width, 2 * picture.height), 0).save(file)


def timing(space: Workspace) -> dict[str, Any]:
    """CPU seconds of making and reading the index, and of one request with the index there, `PLANTED` twins and all."""
    for file in space.root.rglob("near.npz"):
        file.unlink()
    _, built = cpu(lambda: Searcher.of(space))
    _, read = cpu(lambda: Searcher.of(space))
    result: dict[str, Any] = {"index made": built, "index read": read}
    for count in (1, 20, 100):
        ids = [space.book.ids[slot] for slot in range(0, 11 * count, 11)]
        resolution = resolve(space, space.request(ids=ids))
        _, result[f"request of {count} records"] = cpu(lambda chosen=resolution: search(space, chosen))
    return result


def measure(source: str, space: Workspace, queries: int, tests: int, judged: Any, sheet: Path) -> dict[str, Any]:
    data = space.data
    generator = np.random.Generator(np.random.Philox(SEED))
    rows = np.sort(generator.permutation(len(data.train))[: min(queries, len(data.train))])
    held = np.sort(generator.permutation(len(data.test))[: min(tests, len(data.test))])
    searcher = Searcher.of(space)
    both = {"hash and pixels": without_features(searcher), "hash, pixels and features": searcher}
    labels = np.concatenate([data.train.labels, data.test.labels])
    names = (*data.train.ids, *data.test.ids)
    images = np.concatenate([data.train.images, data.test.images])
    result: dict[str, Any] = {
        "records": {"train": len(data.train), "test": len(data.test)},
        "thresholds": dict(searcher.thresholds),
        "recall": recall(both, data.train.images, rows[:300]),
    }
    for name, one in both.items():
        pairs, spent = cpu(lambda chosen=one: links(chosen, data.train.images, rows, 0))
        backwards = links(one, data.test.images, held, len(data.train))
        result[f"links by {name}"] = {
            "of training records": linked(pairs, len(rows), len(data.train), labels, judged, names),
            "of test records": linked(backwards, len(held), len(data.train), labels, judged, names),
            "cpu_s a record": round(spent["cpu_s"] / len(rows), 4),
        }
        unique = sorted({tuple(sorted(pair)) for pair in pairs + backwards})
        result[f"links by {name}"]["listed"] = [[names[a], names[b]] for a, b in unique]
        contact_sheet(unique, images, sheet.with_name(f"{source}-{name.replace(' ', '-').replace(',', '')}.png"))
    return result


def accuracy(space: Workspace) -> float:
    """Of the served model on the test split: features of a better model are better."""
    model = space.adapter.load(space.root / space.served().run / "model.safetensors")
    return round(
        float((space.adapter.outputs(model, space.data.test.images).argmax(1) == space.data.test.labels).mean()), 4
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="CIFAR-10 as parquet or python batches")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=1500)
    parser.add_argument("--tests", type=int, default=750)
    parser.add_argument("--sources", nargs="+", default=["digits", "cifar10"])
    parser.add_argument("--timing", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    arguments = parser.parse_args()
    judged = json.loads((HERE / "judged.json").read_text()) if (HERE / "judged.json").exists() else {}
    result = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for source in arguments.sources:
        with workspace(source, arguments.work / source, arguments.data if source == "cifar10" else None) as space:
            if arguments.timing:
                result.setdefault(source, {})["timing"] = {**timing(space), "hardware": hardware()}
            else:
                listed = judged.get(source, [])
                found = measure(source, space, arguments.queries, arguments.tests, listed, arguments.work / "sheet")
                about = {"data": space.data.note, "accuracy of the model": accuracy(space)}
                result[source] = {**result.get(source, {}), **about, **found}
        result["seed"], result["planted a request"], result["hardware"] = SEED, PLANTED, hardware()
        result["command"] = "python benchmarks/linkage/run.py --data FOLDER --work FOLDER"
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
