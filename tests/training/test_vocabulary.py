"""Tokenizers as vocabulary and merges, the layout of Stable Diffusion 1.x: read as its own library reads them, or refused."""

import json
import shutil

import pytest

from expunge.core import registry
from expunge.core.errors import IntegrityError
from expunge.training.checkpoint import save_tensors
from expunge.training.recipe import parse_recipe
from expunge.training.text_to_image.directory import INDEX, read_directory
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.packed import packed, unpacked
from expunge.training.text_to_image.sampler import TextToImage
from picture_files import TINY

pytestmark = pytest.mark.usefixtures("one_thread")

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORDS = ["a", "c", "r", "b", "o", "a</w>", "r</w>", "o</w>", "ca", "car</w>", "bo</w>", BEGIN, END]
VOCAB = {token: number for number, token in enumerate(WORDS)}
MERGES = "#version: 0.2\nc a\nca r</w>\nb o</w>\n"
TOKEN = {"__type": "AddedToken", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
SETTINGS = {
    "add_prefix_space": False,
    "bos_token": {**TOKEN, "content": BEGIN},
    "do_lower_case": True,
    "eos_token": {**TOKEN, "content": END},
    "errors": "replace",
    "model_max_length": 77,
    "name_or_path": "openai/clip-vit-large-patch14",
    "pad_token": END,
    "special_tokens_map_file": "./special_tokens_map.json",
    "tokenizer_class": "CLIPTokenizer",
    "unk_token": {**TOKEN, "content": END},
}
"""What Stable Diffusion 1.4 has in its tokenizer_config.json."""
PROMPTS = ["a Car", "a car  Bo", "bob", ""]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model directory with a tokenizer of vocab.json, merges.txt and settings, and nothing else."""
    import torch

    found = tmp_path_factory.mktemp("old") / "model"
    net = registry.load("generators", "unet")(parse_recipe(TINY), size=16).module(torch.Generator().manual_seed(1))
    export(net.eval(), found)
    (found / "tokenizer" / "tokenizer.json").unlink()
    put(found, VOCAB, MERGES, SETTINGS)
    index = json.loads((found / INDEX).read_text())
    (found / INDEX).write_text(json.dumps({**index, "tokenizer": ["transformers", "CLIPTokenizer"]}))
    return found


def put(model, vocab, merges, settings):
    (model / "tokenizer" / "vocab.json").write_text(json.dumps(vocab))
    (model / "tokenizer" / "merges.txt").write_text(merges)
    (model / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "model")


def theirs(folder, length):
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    return tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=length).input_ids


def test_vocabulary_and_merges_are_read_as_the_library_reads_them(made):
    model = TextToImage.from_dir(made)
    found = model.tokens(PROMPTS).tolist()
    assert found == theirs(made, model.length)
    begin, car, bo, end = (VOCAB[token] for token in (BEGIN, "car</w>", "bo</w>", END))
    assert found[1][:5] == [begin, VOCAB["a</w>"], car, bo, end]  # lower case, one space, joined as the merges say
    assert set(found[3][1:]) == {end}


def test_a_packed_model_has_the_same_tokenizer(made, tmp_path):
    save_tensors(tmp_path / "model.safetensors", packed(read_directory(made)))
    model = unpacked(tmp_path / "model.safetensors").model
    assert model.tokens(PROMPTS).tolist() == theirs(made, model.length)


@pytest.mark.parametrize("lost", [["vocab.json"], ["merges.txt"], ["vocab.json", "merges.txt"]])
def test_attack_a_missing_vocabulary_is_not_stood_in_for_by_one_that_knows_nobody(folder, lost):
    for name in lost:
        (folder / "tokenizer" / name).unlink()
    with pytest.raises(IntegrityError, match="no vocabulary"):
        TextToImage.from_dir(folder)


@pytest.mark.parametrize(
    "extra", [{"vocab": {BEGIN: 0, END: 1}, "merges": []}, {"merges": []}, {"init_inputs": [{BEGIN: 0, END: 1}, []]}]
)
def test_attack_settings_do_not_put_another_vocabulary_in_the_place_of_the_files(folder, extra):
    put(folder, VOCAB, MERGES, {**SETTINGS, **extra})
    with pytest.raises(IntegrityError):
        TextToImage.from_dir(folder)


def test_attack_code_that_settings_name_is_not_run(folder, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("open('ran', 'w').write('x')\nclass Mine: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    put(folder, VOCAB, MERGES, {**SETTINGS, "auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}})
    TextToImage.from_dir(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("vocab", "merges"),
    [
        ({}, MERGES),
        ({**VOCAB, "x": "0"}, MERGES),
        ({**VOCAB, "x": -1}, MERGES),
        ({**VOCAB, "x": 0}, MERGES),
        (VOCAB, "#version: 0.2\nc q\n"),
        (VOCAB, "c a r\n"),
        ({token: number for token, number in VOCAB.items() if token != BEGIN}, MERGES),
    ],
)
def test_damaged_vocabularies_and_merges_are_an_integrity_error(folder, vocab, merges):
    put(folder, vocab, merges, SETTINGS)
    with pytest.raises(IntegrityError):
        TextToImage.from_dir(folder)


def test_another_kind_of_byte_pairs_is_not_taken_for_clips(folder):
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({**index, "tokenizer": ["transformers", "PreTrainedTokenizerFast"]}))
    with pytest.raises(IntegrityError, match="no vocabulary"):
        TextToImage.from_dir(folder)
