"""Rates of the evidence floor, each beside its bare alternative in the same run.

    python benchmarks/evidence_rates/run.py [--entries 1000000] [--megabytes 512] [--out result.json]

Absolute rates swing with the disk and with neighbours on the machine; the ratios, taken from alternating rounds, do not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sqlite3
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cryptography

from expunge import __version__
from expunge.core.codec import canonical
from expunge.evidence.keys import Root, TrustRoots
from expunge.evidence.log import AuditLog
from expunge.evidence.log_entry import make_body
from expunge.evidence.manifest import RecordManifest, TensorManifest
from expunge.evidence.signers.file import FileSigner

ORIGIN = "benchmark.example"
PAYLOAD = {"plan": "sha256:" + "0" * 64, "attempt": 1}
ROUNDS = 7
APPEND_ROUNDS = 41  # short rounds in turn: a disk that changes its mind changes it for both


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare(path: Path) -> sqlite3.Connection:
    """The least a durable log could be: one table, the same durability, no tree."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE entry(i INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT")
    return db


def bare_append(db: sqlite3.Connection, bodies: list[bytes]) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO entry(body) VALUES (?)", ((body,) for body in bodies))
    db.execute("COMMIT")


def appends(folder: Path, batch: int, transactions: int) -> dict[str, Any]:
    """`transactions` commits of `batch` entries per round, ours and bare in turn."""
    body = canonical(make_body("plan.committed", PAYLOAD, "case-0001", datetime.now(UTC)))
    log, db = AuditLog(folder / f"ours{batch}.db", origin=ORIGIN), bare(folder / f"bare{batch}.db")
    event = ("plan.committed", PAYLOAD, "case-0001")
    plain = make_body("plan.committed", PAYLOAD, "case-0001", datetime.now(UTC))
    ours, theirs, writing = [], [], []

    def bare_json() -> None:
        for _ in range(transactions):
            bare_append(db, [json.dumps(plain, sort_keys=True).encode() for _ in range(batch)])

    for _ in range(APPEND_ROUNDS):
        ours.append(seconds(lambda: [log.append_many([event] * batch) for _ in range(transactions)]))
        theirs.append(seconds(lambda: [bare_append(db, [body] * batch) for _ in range(transactions)]))
        writing.append(seconds(bare_json))
    log.close()
    db.close()
    count = batch * transactions
    return {
        "entries_per_commit": batch,
        "n_entries": count * APPEND_ROUNDS,
        "rounds": APPEND_ROUNDS,
        "appends_per_s": rates(count, ours),
        "bare_sqlite_full_per_s": rates(count, theirs),
        "bare_sqlite_full_with_json_per_s": rates(count, writing),
        "ratio": spread([b / a for a, b in zip(ours, theirs, strict=True)]),
        "ratio_with_json": spread([b / a for a, b in zip(ours, writing, strict=True)]),
    }


def rates(count: float, times: list[float]) -> dict[str, float]:
    return spread([count / item for item in times])


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": float(f"{statistics.median(values):.4g}"),
        "min": float(f"{min(values):.4g}"),
        "max": float(f"{max(values):.4g}"),
    }


def whole_log(folder: Path, entries: int) -> dict[str, Any]:
    """Fill a log, then verify it from its bodies against a checkpoint kept outside; a thousand proofs on the way."""
    signer = FileSigner.create(folder / "log.pem")
    roots = TrustRoots(keys=(Root.of(signer, name="log", role="log"),))
    log = AuditLog(folder / "big.db", signer=signer, origin=ORIGIN)
    event, batch = ("plan.committed", PAYLOAD, "case-0001"), 10_000
    fill = seconds(lambda: [log.append_many([event] * min(batch, entries - at)) for at in range(0, entries, batch)])
    notes: list[str] = []
    sign = seconds(lambda: notes.append(log.checkpoint()))
    reports: list[Any] = []
    check = seconds(lambda: reports.append(log.verify(notes[0], roots=roots)))
    root = log.root()

    def prove() -> None:
        for k in range(500):
            index = k * (entries // 500)
            log.prove_inclusion(index).verify(log.entry(index).leaf, root)
            log.prove_consistency(index + 1)

    proofs = seconds(prove)
    size = (folder / "big.db").stat().st_size
    log.close()
    return {
        "n_entries": entries,
        "ok": reports[0].ok,
        "verify_seconds": round(check, 2),
        "verify_entries_per_s": round(entries / check),
        "fill_seconds": round(fill, 2),
        "checkpoint_from_bodies_seconds": round(sign, 2),
        "proofs_made_and_checked": 1000,
        "proofs_seconds": round(proofs, 3),
        "file_megabytes": round(size / 1e6, 1),
    }


def hashing(folder: Path, megabytes: int) -> dict[str, Any]:
    """Tensor manifest of one file against hashlib over the same file and over the same bytes in memory; page cache warm."""
    path, tensors = folder / "m.safetensors", 24
    each = megabytes * 1_000_000 // tensors
    header = {
        f"layer{k}.weight": {"dtype": "U8", "shape": [each], "data_offsets": [k * each, (k + 1) * each]}
        for k in range(tensors)
    }
    text = json.dumps(header).encode()
    block = os.urandom(each)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _ in range(tensors):
            file.write(block)
    size = path.stat().st_size
    ours, files, memory = [], [], []

    def file_digest() -> None:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")

    TensorManifest.of_file(path)
    for _ in range(ROUNDS):
        ours.append(seconds(lambda: TensorManifest.of_file(path)))
        files.append(seconds(file_digest))
        memory.append(seconds(lambda: [hashlib.sha256(block) for _ in range(tensors)]))
    return {
        "n_bytes": size,
        "rounds": ROUNDS,
        "gigabytes_per_s": rates(size / 1e9, ours),
        "hashlib_file_digest_gigabytes_per_s": rates(size / 1e9, files),
        "hashlib_in_memory_gigabytes_per_s": rates(size / 1e9, memory),
        "ratio_to_file_digest": spread([b / a for a, b in zip(ours, files, strict=True)]),
        "ratio_to_in_memory": spread([b / a for a, b in zip(ours, memory, strict=True)]),
    }


def records(n: int = 50_000) -> dict[str, Any]:
    rows = [(k, f"train/{k:06}", hashlib.sha256(b"%d" % k).hexdigest()) for k in range(n)]

    def build() -> None:
        manifest = RecordManifest.build(rows, key=bytes(32))
        assert manifest.root != manifest.content_root

    return {
        "n_records": n,
        "rounds": ROUNDS,
        "build_and_both_roots_seconds": spread([seconds(build) for _ in range(ROUNDS)]),
    }


def hardware() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "sha_extensions": any(" sha_ni" in line for line in lines if line.startswith("flags")),
        "load_average_at_start": [round(value, 2) for value in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    return {
        "expunge": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cryptography": cryptography.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument(
        "--folder", type=Path, help="where the disk is that you want measured; default: the temporary one"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("result.json"))
    options = parser.parse_args()
    result: dict[str, Any] = {
        "command": "python benchmarks/evidence_rates/run.py " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": hardware(),
        "versions": versions(),
    }
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for label, work in (
            ("append_single", lambda: appends(folder, 1, 50)),
            ("append_batched", lambda: appends(folder, 100, 10)),
            ("tensor_hashing", lambda: hashing(folder, options.megabytes)),
            ("record_manifest", records),
            ("verify", lambda: whole_log(folder, options.entries)),
        ):
            result[label] = work()
            print(label, json.dumps(result[label]), flush=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
