"""The plug-in embedder with a tiny CLIP of random weights: what it needs, what it refuses, what it reads out."""

import json

import numpy as np
import pytest
import torch

from expunge.core.errors import InputError, IntegrityError
from expunge.judges.embedder import Embedder
from expunge.training.judging.embedding import open_embedding
from expunge.training.judging.judge import OTHER, Judge, JudgeBlind, JudgeMissing
from judges.judging_hands import coloured

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )
    transformers.CLIPVisionModel(config).save_pretrained(folder)
    return folder


def references(each=30, seed=0):
    shown = coloured(each, seed)
    return {style: shown.images[[s == style for s in shown.styles]] for style in ("red", "green", "blue")}


@pytest.fixture(scope="module")
def judge(clip):
    return Embedder(weights=clip, references=references(), k=5)


def test_colours_are_told_on_other_pictures(judge):
    shown = coloured(20, seed=7)
    found = judge.judge(shown.images)
    right = np.array([found.styles[n] for n in found.style]) == np.array(shown.styles)
    assert right.mean() > 0.9
    assert found.styles == ("red", "green", "blue", OTHER)
    assert isinstance(judge, Judge)
    assert len(judge.judge(shown.images[:0])) == 0


def test_a_picture_is_judged_alike_alone_and_among_others(judge):
    shown = coloured(6, seed=8).images
    assert np.array_equal(judge.judge(shown).style[:1], judge.judge(shown[:1]).style)


def test_what_is_like_nothing_is_none_of_these(judge):
    stripes = np.zeros((8, 32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    assert (judge.judge(stripes).style == 3).mean() > 0.8


def test_the_gap_is_of_this_corpus_and_positive(judge):
    for gap, told in judge.discrimination().values():
        assert gap.low > 0
        assert told.estimate > 0.9


def test_an_embedding_that_tells_nothing_is_blind(clip):
    shown = coloured(40).images
    halves = {"even": shown[::2], "odd": shown[1::2]}
    with pytest.raises(JudgeBlind, match="does not tell"):
        Embedder(weights=clip, references=halves, k=5).judge(shown[:2])


def test_without_weights_or_references_it_is_missing(clip, tmp_path):
    for judge in (
        Embedder(),
        Embedder(references=references()),
        Embedder(weights=tmp_path / "gone", references=references()),
        Embedder(weights=clip),
        Embedder(weights=clip, references=references(each=10)),
        Embedder(weights=clip, references={"red": references()["red"]}),
    ):
        with pytest.raises(JudgeMissing):
            judge.judge(coloured(1).images)


def test_the_digest_knows_weights_references_and_k(judge, clip):
    again = Embedder(weights=clip, references=references(), k=5)
    others = [
        Embedder(weights=clip, references=references(seed=1), k=5),
        Embedder(weights=clip, references=references()),
    ]
    assert again.digest == judge.digest
    assert len({judge.digest, *(other.digest for other in others)}) == 3


def copied(clip, target, without=()):
    target.mkdir()
    for file in clip.iterdir():
        if file.name not in without:
            (target / file.name).write_bytes(file.read_bytes())
    return target


def test_pickles_code_links_and_unknown_kinds_are_refused(clip, tmp_path):
    for name in ("pytorch_model.bin", "modeling.py"):
        folder = copied(clip, tmp_path / name)
        (folder / name).write_bytes(b"x")
        with pytest.raises(InputError, match="must not be read"):
            open_embedding(folder)
    linked = copied(clip, tmp_path / "linked")
    (linked / "more.json").symlink_to(clip / "config.json")
    with pytest.raises(InputError, match="must not be read"):
        open_embedding(linked)
    for name, change in (("code", {"auto_map": {"AutoModel": "evil.Model"}}), ("kind", {"model_type": "bert"})):
        folder = copied(clip, tmp_path / name)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(InputError, match="not a vision model"):
            open_embedding(folder)


def test_missing_weights_are_not_filled_with_random_numbers(clip, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copied(clip, tmp_path / "torn")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(next(name for name in tensors if "layers.1" in name))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match="missing"):
        open_embedding(folder)
    empty = copied(clip, tmp_path / "empty", without=("model.safetensors",))
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        open_embedding(empty)
