"""Closed-form concept edits: against the published per-layer formula, in files of all float types, and every refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from expunge.core.errors import InputError, IntegrityError
from expunge.training.concepts.files import changed_tensors, edit_file, kv_tensors, patch_file
from expunge.training.concepts.uce import Scales, edit_of

D = 12
KV = [f"down_blocks.{k}.attentions.0.transformer_blocks.0.attn2.to_{part}.weight" for k in range(3) for part in "kv"]


def embeddings(count: int, seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).normal(size=(count, D))


def model(path: Path, kind: torch.dtype = torch.float32, seed: int = 1) -> Path:
    draw = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(8 + k, D, generator=draw).to(kind) for k, name in enumerate(KV)}
    tensors |= {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight": torch.randn(8, 8, generator=draw)}
    tensors |= {"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q.weight": torch.randn(8, 8, generator=draw)}
    tensors |= {"conv_in.bias": torch.arange(5.0), "attn2.to_k.weight.note": torch.zeros(3)}
    save_file(tensors, str(path))
    return path


def published(weight, erase, guide, preserve, a, b, lam):
    """Equation 7, matrix by matrix, with an inverse: the slow and obvious twin."""
    top = lam * weight + a * sum(np.outer(weight @ g, e) for e, g in zip(erase, guide, strict=True))
    top = top + b * sum((np.outer(weight @ p, p) for p in preserve), np.zeros_like(weight))
    bottom = lam * np.eye(D) + a * sum(np.outer(e, e) for e in erase)
    return top @ np.linalg.inv(bottom + b * sum((np.outer(p, p) for p in preserve), np.zeros((D, D))))


@pytest.mark.parametrize(("a", "b", "lam", "kept"), [(1, 1, 0.5, 4), (0.1, 1, 0.1, 0), (3, 0, 2, 2), (1, 2, 0.01, 20)])
def test_one_matrix_for_all_layers_is_the_published_formula_layer_by_layer(a, b, lam, kept):
    erase, guide, preserve = embeddings(2, 1), embeddings(2, 2), embeddings(kept, 3)
    edit = edit_of(erase, guide, preserve if kept else None, Scales(erase=a, preserve=b, lam=lam))
    for rows in (3, 17):
        weight = np.random.Generator(np.random.Philox(rows)).normal(size=(rows, D))
        assert np.abs(weight @ edit.factor - published(weight, erase, guide, preserve, a, b, lam)).max() < 1e-9


def test_with_a_small_lam_the_concept_leads_to_its_guide_and_what_is_kept_stays():
    erase, guide, preserve = embeddings(1, 1), embeddings(1, 2), embeddings(5, 3)
    edit = edit_of(erase, guide, preserve, Scales(lam=1e-6))
    assert np.abs(edit.factor @ erase[0] - guide[0]).max() < 1e-4
    assert edit.shift(preserve).max() < 1e-4 < 0.5 < edit.shift(erase).min()


def test_a_concept_that_already_leads_to_its_guide_changes_nothing():
    erase = embeddings(3, 1)
    edit = edit_of(erase, erase, embeddings(2, 2))
    assert edit.distance < 1e-12
    assert edit.shift(embeddings(4, 5)).max() < 1e-12


def test_condition_and_distance_are_what_they_say():
    erase, guide = embeddings(2, 1), embeddings(2, 2)
    edit = edit_of(erase, guide, scales=Scales(lam=0.5))
    square = 0.5 * np.eye(D) + erase.T @ erase
    assert edit.condition == pytest.approx(np.linalg.cond(square), rel=1e-9)
    assert edit.distance == pytest.approx(np.sqrt(((edit.factor - np.eye(D)) ** 2).sum()), rel=1e-12)
    assert edit.shift(np.zeros((1, D)))[0] == 0


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_file_is_edited_in_its_keys_and_values_and_nowhere_else(tmp_path, kind):
    source = model(tmp_path / "unet.safetensors", kind)
    before = source.read_bytes()
    edit = edit_of(embeddings(1, 1), embeddings(1, 2), embeddings(3, 3))
    done = edit_file(source, tmp_path / "edited.safetensors", edit.factor)
    assert set(done.names) == set(KV)
    assert done.weights == sum((8 + k) * D for k in range(6))
    assert source.read_bytes() == before
    assert set(changed_tensors(source, tmp_path / "edited.safetensors")) == set(KV)
    old, new = load_file(str(source)), load_file(str(tmp_path / "edited.safetensors"))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-1}[kind]
    for name in KV:
        wanted = old[name].double().numpy() @ edit.factor
        assert np.abs(new[name].double().numpy() - wanted).max() < tolerance
        assert new[name].dtype is kind
    assert sorted(file.name for file in tmp_path.iterdir()) == ["edited.safetensors", "unet.safetensors"]


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_a_patch_holds_the_edited_tensors_and_no_other(tmp_path, kind):
    source = model(tmp_path / "unet.safetensors", kind)
    factor = edit_of(embeddings(1, 1), embeddings(1, 2)).factor
    done = patch_file(source, tmp_path / "patch.safetensors", factor)
    edit_file(source, tmp_path / "edited.safetensors", factor)
    patch, edited = (load_file(str(tmp_path / f"{name}.safetensors")) for name in ("patch", "edited"))
    assert set(patch) == set(KV) == set(done.names)
    assert all(torch.equal(patch[name], edited[name]) for name in KV)
    with pytest.raises(InputError, match="exists already"):
        patch_file(source, tmp_path / "patch.safetensors", factor)


def test_editing_twice_is_the_product_and_the_identity_changes_no_byte(tmp_path):
    source = model(tmp_path / "unet.safetensors", torch.float64)
    edit_file(source, tmp_path / "same.safetensors", np.eye(D))
    assert (tmp_path / "same.safetensors").read_bytes() == source.read_bytes()
    first, second = (
        edit_of(embeddings(1, 1), embeddings(1, 2)).factor,
        edit_of(embeddings(1, 4), embeddings(1, 5)).factor,
    )
    edit_file(source, tmp_path / "one.safetensors", first)
    edit_file(tmp_path / "one.safetensors", tmp_path / "two.safetensors", second)
    edit_file(source, tmp_path / "both.safetensors", first @ second)
    one, both = (load_file(str(tmp_path / f"{name}.safetensors")) for name in ("two", "both"))
    assert max(float((one[name] - both[name]).abs().max()) for name in KV) < 1e-10


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("erase", "guide", "settings", "said"),
    [
        (embeddings(2), embeddings(1), {}, "a guide for every concept"),
        (embeddings(1), embeddings(1)[:, :5], {}, "guide are rows"),
        (np.full((1, D), np.nan), embeddings(1), {}, "not finite"),
        (np.zeros((0, D)), np.zeros((0, D)), {}, "erase are rows"),
        (embeddings(1), embeddings(1), {"lam": 0.0}, "singular"),
        (embeddings(1), embeddings(1), {"lam": -1.0}, "scales out of range"),
        (embeddings(1), embeddings(1), {"erase": 0.0}, "scales out of range"),
        (embeddings(1), embeddings(1), {"preserve": np.inf}, "scales out of range"),
    ],
)
def test_bad_concepts_are_refused(erase, guide, settings, said):
    with pytest.raises(InputError, match=said):
        edit_of(erase, guide, scales=Scales(**settings))


def refused(tmp_path, source, factor, error, said):
    out = tmp_path / "out.safetensors"
    with pytest.raises(error, match=said):
        edit_file(source, out, factor)
    assert sorted(file.name for file in tmp_path.iterdir()) == [source.name]


def test_another_width_is_refused(tmp_path):
    refused(tmp_path, model(tmp_path / "unet.safetensors"), np.eye(D + 1), InputError, "another form")


@pytest.mark.parametrize(
    "name", ["transformer_blocks.0.attn.add_k_proj.weight", "single_transformer_blocks.0.attn.to_k.weight"]
)
def test_a_joint_transformer_is_refused_by_name(tmp_path, name):
    save_file({name: torch.zeros(4, D)}, str(tmp_path / "mmdit.safetensors"))
    refused(tmp_path, tmp_path / "mmdit.safetensors", np.eye(D), InputError, "a joint transformer")


def test_a_file_without_cross_attention_is_refused(tmp_path):
    save_file({"attn1.to_k.weight": torch.zeros(4, D)}, str(tmp_path / "plain.safetensors"))
    refused(tmp_path, tmp_path / "plain.safetensors", np.eye(D), InputError, "nothing to edit: no attn2")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_leave_no_file(tmp_path, value):
    source = model(tmp_path / "unet.safetensors")
    tensors = load_file(str(source))
    tensors[KV[-1]][0, 0] = value
    save_file(tensors, str(source))
    refused(tmp_path, source, np.eye(D) * 2, IntegrityError, "not finite")


def test_weights_that_overflow_their_type_leave_no_file(tmp_path):
    refused(
        tmp_path, model(tmp_path / "unet.safetensors", torch.float16), np.eye(D) * 1e6, IntegrityError, "not finite"
    )


def test_a_truncated_file_is_refused(tmp_path):
    source = model(tmp_path / "unet.safetensors")
    source.write_bytes(source.read_bytes()[:-7])
    refused(tmp_path, source, np.eye(D), IntegrityError, "truncated")


def test_nothing_is_overwritten(tmp_path):
    source = model(tmp_path / "unet.safetensors")
    with pytest.raises(InputError, match="exists already"):
        edit_file(source, source, np.eye(D))


def test_whole_numbers_are_no_weights(tmp_path):
    save_file({KV[0]: torch.zeros(4, D, dtype=torch.int8)}, str(tmp_path / "q.safetensors"))
    with pytest.raises(InputError, match="another form"):
        kv_tensors(tmp_path / "q.safetensors", D)


def test_a_renamed_tensor_is_no_edit(tmp_path):
    source = model(tmp_path / "unet.safetensors")
    tensors = load_file(str(source))
    tensors["attn2.to_k.renamed"] = tensors.pop(KV[0])
    save_file(tensors, str(tmp_path / "other.safetensors"))
    with pytest.raises(InputError, match="do not hold the same tensors"):
        changed_tensors(source, tmp_path / "other.safetensors")
