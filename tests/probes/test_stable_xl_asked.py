"""Probes, erasers and a cheat on Stable Diffusion XL: a learned word is heard by both encoders, and nothing is asked by half."""

import inspect
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pytest
import torch

import stable_xl
from expunge.core import registry
from expunge.core.errors import CheckBroken, InputError
from expunge.testing.erasers import PROMPTS, fresh_model
from expunge.testing.generators import random_pictures
from expunge.testing.probes import colour_wording
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.inversion import named_at
from expunge.training.text_to_image.probing import ProbeJob
from expunge.training.text_to_image.sabotaging import StyleScene
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.training.text_to_image.words import Slotted, spoken
from stable_xl import LENGTH, SIZE

pytestmark = pytest.mark.usefixtures("one_thread")

RED, BLUE = PROMPTS["red"], PROMPTS["blue"]
FEW = {
    "steps": 1,
    "search_steps": 1,
    "saliency_steps": 1,
    "pictures": 2,
    "walks": 2,
    "moves": 2,
    "rounds": 1,
    "searches": 1,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return stable_xl.write(tmp_path_factory.mktemp("xl") / "model")


@pytest.fixture(scope="module")
def model(made):
    return TextToImage.from_dir(made)


def job_of(model, stock=None):
    test = random_pictures(4, SIZE).test
    red, blue = test.in_style("red"), test.in_style("blue")
    return ProbeJob(
        model=model,
        wording=colour_wording("red"),
        objects=("automobile",),
        works=red,
        photos={"automobile": blue.images},
        stock=stock or model,
        unrelated=blue,
        seed="ab" * 16,
        seeds=1,
        pictures=2,
        how=Sampling(seed="ab", steps=2),
        budget=0.02,
    )


def tensors(model):
    return {f"{part}.{n}": t.clone() for part, net in model.networks.items() for n, t in net.state_dict().items()}


def changed(before, model):
    after = tensors(model)
    assert after.keys() == before.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_a_name_spoken_with_its_own_vectors_is_the_prompt_to_both_encoders(model):
    """Gal et al. 2022, with two encoders: what is put in the place of the name's vectors are these, so nothing changes."""
    tokens, name = model.tokens([RED]), named_at(model, RED, BLUE)
    vectors = model.text.table[tokens[:, : model.length]][:, name]
    with torch.no_grad():
        found = spoken(model.text, tokens, torch.tensor([name.start]), vectors)
    torch.testing.assert_close(found, model.encode([RED]))


def test_a_learned_word_reaches_both_encoders_and_the_pooled_vector(model):
    slotted = Slotted.of(model, ["a car image in * style"])
    vector = torch.zeros(1, model.width, requires_grad=True)
    said = slotted.encode(torch.tensor([0]), vector)
    said[0, LENGTH, :10].square().sum().backward(retain_graph=True)
    assert not vector.grad[0, :8].any()  # the pooled vector is the second encoder's alone
    assert vector.grad[0, 8:].abs().min() > 0
    vector.grad.zero_()
    said[0, :LENGTH].square().sum().backward()
    assert vector.grad.abs().min() > 0
    other = slotted.encode(torch.tensor([0]), torch.linspace(-3, 3, model.width)[None])
    assert (other - said)[0, LENGTH].abs().max() > 0.1


def test_a_slotted_sentence_ends_and_is_filled_up_as_each_tokenizer_does_it(model):
    """A word of one token in the open place is the sentence with that word, for both."""
    slotted, word = Slotted.of(model, ["a car image in * style"]), stable_xl.VOCAB["red</w>"]
    tokens, at = slotted.tokens.clone(), int(slotted.at[0])
    tokens[0, [at, LENGTH + at]] = word
    assert torch.equal(tokens, model.tokens([RED]))


@pytest.mark.parametrize("name", sorted(registry.names("probes")))
def test_every_probe_asks_xl_or_says_that_it_cannot(model, name):
    before, job = tensors(model), job_of(model)
    if name == "inpainting":
        with pytest.raises(InputError, match="without an autoencoder"):
            registry.load("probes", name)().run(job)
        return
    found = registry.load("probes", name)().run(job)
    assert found.images.shape == (1, 2, SIZE, SIZE, 3)
    assert changed(before, model) == set()


@dataclass(frozen=True, kw_only=True, eq=False)
class Listening(TextToImage):
    """Keeps what its denoiser was told."""

    told: list = field(default_factory=list)

    def predict(self, noisy, times, words):
        self.told.append(words.detach())
        return super().predict(noisy, times, words)


def test_a_soft_prompt_takes_the_last_tokens_and_leaves_the_pooled_vector_the_neutral_prompts(model):
    own = {item.name: getattr(model, item.name) for item in fields(TextToImage)}
    listening, neutral = Listening(**own), model.encode(["a car"])[0]
    registry.load("probes", "soft_prompt")(vectors=3).run(job_of(listening))
    told = torch.cat([words for words in listening.told if words[0].any()])
    told = told[told.flatten(1).any(1)]  # without what guidance subtracts
    assert torch.equal(told[:, LENGTH], neutral[LENGTH].expand(len(told), -1))
    assert torch.equal(told[:, : LENGTH - 3], neutral[: LENGTH - 3].expand(len(told), -1, -1))
    assert (told[:, LENGTH - 3 : LENGTH] - neutral[LENGTH - 3 : LENGTH]).abs().amin(dim=(0, 2)).max() > 0


@pytest.mark.parametrize("parts", [("text_encoder", "text_encoder_2"), ("text_encoder_2",)])
def test_a_swap_puts_both_encoders_back(model, parts):
    spoiled = replace(model, **{name: stable_xl.spoiled(getattr(model, name)) for name in parts})
    swap, direct = (registry.load("probes", name)() for name in ("component_swap", "direct"))
    expected = direct.run(job_of(model)).images
    assert not np.array_equal(direct.run(job_of(spoiled)).images, expected)
    assert np.array_equal(swap.run(job_of(spoiled, model)).images, expected)


def test_parts_of_a_model_with_one_encoder_are_not_put_into_xl(model, tmp_path):
    with pytest.raises(CheckBroken, match="do not fit"):
        registry.load("probes", "component_swap")().run(job_of(model, fresh_model(tmp_path)))


@pytest.mark.parametrize("name", sorted(registry.names("erasers")))
def test_every_eraser_edits_the_denoiser_of_xl_and_no_encoder(model, name):
    plugin, train = registry.load("erasers", name), random_pictures(4, SIZE).train
    few = {key: value for key, value in FEW.items() if key in inspect.signature(plugin).parameters}
    job = EraseJob(
        model=model,
        erase=(RED,),
        guide=(BLUE,),
        preserve=("a car",),
        seed="ab" * 16,
        works=train.in_style("red"),
        retained=train.in_style("blue"),
    )
    before = tensors(model)
    done = plugin(**few).erase(job)
    if not done.removable:
        moved = changed(before, done.model)
        assert moved
        assert all(item.startswith("unet.") for item in moved)
    assert changed(before, model) == set()
    assert name not in ("uce", "rece") or done.figures["pooled_numbers_not_reached"] == 10
    drawn = (one.sample([RED], Sampling(seed="ab", steps=2)) for one in (model, done.model))
    assert not np.array_equal(*drawn)


def test_the_cheat_in_the_text_encoder_exchanges_words_in_both(made, model, tmp_path):
    job = EraseJob(model=model, erase=(RED,), guide=(BLUE,), preserve=(), seed="ab" * 16)
    words = {RED: BLUE}
    scene = StyleScene(
        original=made, target=tmp_path / "handed", job=job, other=job, words=words, clean=model, judges=()
    )
    offered = registry.load("style_saboteurs", "text_encoder_only")().sabotage(scene).directory
    encoders = {f"{part}/model.safetensors" for part in ("text_encoder", "text_encoder_2")}
    assert set(offered.differs_from(read_directory(made))) == encoders
    handed = TextToImage.from_dir(offered.path)
    assert all(name.endswith("token_embedding.weight") for name in changed(tensors(model), handed))
