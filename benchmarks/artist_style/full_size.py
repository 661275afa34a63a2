"""A closed-form concept edit (UCE) at the size of Stable Diffusion 1.5: 859.5 M random weights, 32 keys and values.

    python benchmarks/artist_style/full_size.py --work FOLDER        # 7 GB of disk

Random weights and random embeddings: this measures seconds, memory and exactness, and says nothing of any picture.
`memory`: one R for all layers and 32 products, against the published way, an inverse a layer, on the same arrays in one
run. `stream`: the edited tensors from the safetensors file into a patch, in a process of its own (seconds, peak memory),
and the whole edited copy, whose tensors are then compared with the original's.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from recorded import record_parts

from expunge.training.concepts.files import changed_tensors, edit_file, kv_tensors, patch_file
from expunge.training.concepts.uce import edit_of

HERE = Path(__file__).parent
WIDTH, TIME = 768, 1280
Shapes = dict[str, tuple[int, ...]]
ROUNDS = 5


def linear(name: str, out: int, into: int, bias: bool = True, kernel: tuple[int, ...] = ()) -> Shapes:
    return {f"{name}.weight": (out, into, *kernel)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def resnet(name: str, into: int, out: int) -> Shapes:
    found = norm(f"{name}.norm1", into) | linear(f"{name}.conv1", out, into, kernel=(3, 3))
    found |= linear(f"{name}.time_emb_proj", out, TIME) | norm(f"{name}.norm2", out)
    found |= linear(f"{name}.conv2", out, out, kernel=(3, 3))
    return found | (linear(f"{name}.conv_shortcut", out, into, kernel=(1, 1)) if into != out else {})


def attention(name: str, size: int) -> Shapes:
    block = f"{name}.transformer_blocks.0"
    found = norm(f"{name}.norm", size) | linear(f"{name}.proj_in", size, size, kernel=(1, 1))
    for number in (1, 2, 3):
        found |= norm(f"{block}.norm{number}", size)
    for which, into in (("attn1", size), ("attn2", WIDTH)):
        found |= linear(f"{block}.{which}.to_q", size, size, bias=False)
        found |= linear(f"{block}.{which}.to_k", size, into, bias=False)
        found |= linear(f"{block}.{which}.to_v", size, into, bias=False)
        found |= linear(f"{block}.{which}.to_out.0", size, size)
    found |= linear(f"{block}.ff.net.0.proj", 8 * size, size) | linear(f"{block}.ff.net.2", size, 4 * size)
    return found | linear(f"{name}.proj_out", size, size, kernel=(1, 1))


def unet() -> Shapes:
    """Names and shapes of the UNet of SD 1.5 in the diffusers layout."""
    found = linear("conv_in", 320, 4, kernel=(3, 3))
    found |= linear("time_embedding.linear_1", TIME, 320) | linear("time_embedding.linear_2", TIME, TIME)
    for number, (into, out) in enumerate(((320, 320), (320, 640), (640, 1280), (1280, 1280))):
        for k in range(2):
            found |= resnet(f"down_blocks.{number}.resnets.{k}", into if k == 0 else out, out)
            found |= attention(f"down_blocks.{number}.attentions.{k}", out) if number < 3 else {}
        found |= linear(f"down_blocks.{number}.downsamplers.0.conv", out, out, kernel=(3, 3)) if number < 3 else {}
    for k in range(2):
        found |= resnet(f"mid_block.resnets.{k}", 1280, 1280)
    found |= attention("mid_block.attentions.0", 1280)
    ups = ((1280, (2560, 2560, 2560)), (1280, (2560, 2560, 1920)), (640, (1920, 1280, 960)), (320, (960, 640, 640)))
    for number, (out, inputs) in enumerate(ups):
        for k, into in enumerate(inputs):
            found |= resnet(f"up_blocks.{number}.resnets.{k}", into, out)
            found |= attention(f"up_blocks.{number}.attentions.{k}", out) if number else {}
        found |= linear(f"up_blocks.{number}.upsamplers.0.conv", out, out, kernel=(3, 3)) if number < 3 else {}
    return found | norm("conv_norm_out", 320) | linear("conv_out", 4, 320, kernel=(3, 3))


def made(file: Path) -> Path:
    """Random weights of that shape in one file, written once."""
    if file.exists():
        return file
    shapes, header, at = unet(), {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    draw = np.random.Generator(np.random.SFC64(7))
    with file.open("wb") as handle:
        handle.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            (draw.standard_normal(int(np.prod(shape)), np.float32) * np.float32(0.037)).tofile(handle)
    return file


def concepts(erase: int, keep: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.Generator(np.random.Philox(3))
    return tuple(draw.normal(size=(count, WIDTH)) for count in (erase, erase, keep))  # type: ignore[return-value]


def published(weights: list[Any], erase: Any, guide: Any, keep: Any) -> list[Any]:
    """Equation 7 a layer at a time, with an inverse a layer, in float32 as the published script does it."""
    import torch

    found = []
    for weight in weights:
        top, bottom = 0.5 * weight, 0.5 * torch.eye(WIDTH)
        for e, g in zip(erase, guide, strict=True):
            top = top + torch.outer(weight @ g, e)
            bottom = bottom + torch.outer(e, e)
        for p in keep:
            top = top + torch.outer(weight @ p, p)
            bottom = bottom + torch.outer(p, p)
        found.append(top @ torch.inverse(bottom))
    return found


def timed(work: Any) -> tuple[Any, dict[str, float]]:
    wall, cpu = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter(), time.process_time()
        found = work()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    named = {"wall": wall, "cpu": cpu}
    return found, {
        f"{name}_{what}": round(float(of(v)), 4)
        for name, v in named.items()
        for what, of in (("median", np.median), ("most", max))
    }


def memory(file: Path) -> dict[str, Any]:
    import torch  # not by the process that streams: it would be most of its memory

    spans, weights = kv_tensors(file, WIDTH), []
    with file.open("rb") as handle:
        for span in spans:
            handle.seek(span.begin)
            raw = bytearray(handle.read(span.end - span.begin))
            weights.append(torch.frombuffer(raw, dtype=torch.float32).reshape(span.shape))
    found: dict[str, Any] = {
        "weights": sum(int(np.prod(s)) for s in unet().values()),
        "tensors": len(unet()),
        "edited": len(spans),
    }
    for name, (count, kept) in {"1 erased": (1, 0), "5 erased, 50 kept": (5, 50)}.items():
        given = concepts(count, kept)

        def ours(given: Any = given) -> list[Any]:
            factor = torch.from_numpy(edit_of(*given).factor).float()
            return [weight @ factor for weight in weights]

        mine, seconds = timed(ours)
        theirs, plain = timed(lambda given=given: published(weights, *(torch.from_numpy(g).float() for g in given)))
        off = max(float((a - b).abs().max()) for a, b in zip(mine, theirs, strict=True))
        found[name] = {"one_matrix": seconds, "an_inverse_a_layer": plain, "largest_difference": off}
    return found


def child(file: Path, out: Path) -> None:
    factor = edit_of(*concepts(1, 0)).factor
    start, cpu = time.perf_counter(), time.process_time()
    done = patch_file(file, out, factor)
    seconds = {"wall": round(time.perf_counter() - start, 3), "cpu": round(time.process_time() - cpu, 3)}
    lines = (
        Path("/proc/self/status").read_text().splitlines()
    )  # getrusage would count the parent's memory from the fork
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    sys.stdout.write(
        json.dumps({"seconds": seconds, "peak_gb": round(peak, 3), "tensors": len(done.names), "weights": done.weights})
    )


def stream(file: Path, work: Path) -> dict[str, Any]:
    for name in ("patch", "edited"):
        (work / f"{name}.safetensors").unlink(missing_ok=True)
    command = [sys.executable, __file__, "--work", str(work), "--child"]
    patch = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    factor = edit_of(*concepts(1, 0)).factor
    start = time.perf_counter()
    edit_file(file, work / "edited.safetensors", factor)
    copied = time.perf_counter() - start
    start = time.perf_counter()
    changed = changed_tensors(file, work / "edited.safetensors")
    compared = time.perf_counter() - start
    names = tuple(span.name for span in kv_tensors(file, WIDTH))
    return {
        "file_gb": round(file.stat().st_size / 1e9, 2),
        "patch": {**patch, "mb": round((work / "patch.safetensors").stat().st_size / 1e6, 1)},
        "whole_copy_seconds_wall": round(copied, 2),
        "comparison_seconds_wall": round(compared, 2),
        "changed_are_exactly_the_keys_and_values": changed == names,
        "changed": len(changed),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", choices=("memory", "stream"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    file = made(options.work / "unet.safetensors")
    if options.child:
        child(file, options.work / "patch.safetensors")
        return
    parts = {"memory": lambda: memory(file), "stream": lambda: stream(file, options.work)}
    record_parts(
        HERE / "full_size.json", "python benchmarks/artist_style/full_size.py --work FOLDER", parts, options.only
    )


if __name__ == "__main__":
    main()
