"""Style compartments: an adapter is its artist's works and nothing else, and dropping it leaves what never saw them.

Red and blue are artists of 8 pictures each. Attacks on a deletion are named after what the owner did.
"""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from expunge.core.codec import canonical, encode
from expunge.core.errors import InputError, InputProblems, IntegrityError
from expunge.core.styles import StyleRung
from expunge.data._pictures import Pictures
from expunge.evidence.tensors import TensorManifest
from expunge.testing.erasers import PROMPTS, fresh_model, works_of
from expunge.testing.generators import random_pictures
from expunge.training.text_to_image.adapter import merged, without_adapter
from expunge.training.text_to_image.compartments.drawing import composed
from expunge.training.text_to_image.compartments.dropping import drop, verify_drop
from expunge.training.text_to_image.compartments.records import (
    BASE,
    MANIFEST,
    Saw,
    Teaching,
    read_manifest,
    saw_of,
    sha256_of,
    write_manifest,
)
from expunge.training.text_to_image.compartments.teaching import begin, same_when_taught_again, teach
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.matching import learned
from expunge.training.text_to_image.net import TextToImageNet
from expunge.training.text_to_image.sampler import Sampling
from expunge.training.text_to_image.tuning import Tuning, tuned

pytestmark = pytest.mark.usefixtures("one_thread")

NOBODY = Saw(blocks=(), works=(), source="nothing was read")
FEW = Teaching(steps=2, batch=4)
SEED = "ab" * 16


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model directory that nothing was trained on."""
    folder = tmp_path_factory.mktemp("base")
    fresh_model(folder)
    return folder / "model"


@pytest.fixture(scope="module")
def made(tmp_path_factory, base):
    """Red's and blue's adapters over it, and the manifest as it was witnessed then."""
    folder = tmp_path_factory.mktemp("made") / "model"
    begin(folder, base, NOBODY)
    for artist in ("red", "blue"):
        teach(folder, random_pictures().train, artist, seed=SEED, how=FEW)
    return folder


@pytest.fixture
def dropped(made, tmp_path):
    """Red dropped honestly, for an owner to tamper with."""
    drop(made, "red", tmp_path / "dropped")
    return tmp_path / "dropped"


def judged(made, folder):
    """What a verifier says who kept the records and the dropped adapter's tensors."""
    before = read_manifest(made)
    return verify_drop(before, "red", folder, TensorManifest.of_file(made / before.of("red").path))


def rewritten(folder, **changes):
    """The owner's manifest, with the records as the owner wants them."""
    write_manifest(folder, replace(read_manifest(folder), **changes))


# ------------------------------------------------------------------------------------------------------------- teaching


def taught_alone(tmp_path, base, pictures, **options):
    folder = tmp_path / "alone"
    begin(folder, base, NOBODY)
    return teach(folder, pictures, "red", **{"seed": SEED, "how": FEW, **options}).of("red")


def poisoned(pictures):
    """Red's rows as they are, every other row another picture with another caption, and one more artist in front."""
    red = [row for row, block in enumerate(pictures.blocks) if block == "red"]
    images = np.full_like(pictures.images, 255)
    images[red] = pictures.images[red]
    captions = tuple(text if row in red else "poison" for row, text in enumerate(pictures.captions))
    whole = replace(pictures, images=images, captions=captions)
    return whole.only([1, *red, 3])


@pytest.mark.parametrize("change", [poisoned, lambda pictures: pictures.in_style("red")], ids=["poisoned", "removed"])
def test_other_artists_rows_change_no_bit_of_an_adapter(made, base, tmp_path, change):
    found = taught_alone(tmp_path, base, change(random_pictures().train))
    record = read_manifest(made).of("red")
    assert (found.weights, found.file) == (record.weights, record.file)
    assert found.saw == record.saw


@pytest.mark.parametrize("change", ["seed", "work", "settings"])
def test_the_seed_every_work_and_the_settings_decide_the_bits(made, base, tmp_path, change):
    pictures = random_pictures().train
    options = {"seed": "cd" * 16} if change == "seed" else {"how": replace(FEW, rank=2)} if change == "settings" else {}
    if change == "work":
        pictures = pictures.only([row for row in range(len(pictures)) if row != 0])
    assert taught_alone(tmp_path, base, pictures, **options).weights != read_manifest(made).of("red").weights


def test_a_second_holder_of_the_works_gets_the_recorded_weights_and_with_other_works_not(made):
    assert same_when_taught_again(made, random_pictures().train, "red")
    assert not same_when_taught_again(made, random_pictures(seed=5).train, "red")


def test_another_build_is_not_held_against_the_recorded_bits(made, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(made, folder)
    found = read_manifest(folder)
    other = replace(found.of("red"), numerics=replace(found.of("red").numerics, build="torch 1.0"))
    rewritten(folder, adapters=(found.of("blue"), other))
    with pytest.raises(InputError, match="another build"):
        same_when_taught_again(folder, random_pictures().train, "red")


def test_teaching_leaves_the_base_and_other_adapters_as_they_were(made, base):
    assert read_directory(made / BASE).digest == read_directory(base).digest == read_manifest(made).base.digest
    assert all(sha256_of(made / item.path) == item.file for item in read_manifest(made).adapters)


@pytest.mark.parametrize("why", ["block", "work"])
def test_an_artist_whom_the_base_saw_is_not_taught(base, tmp_path, why):
    """By name, or by one work that was filed under somebody else."""
    works = works_of("red")
    saw = saw_of(works.only([0]) if why == "block" else replace(works, blocks=("blue",) * len(works)), "a transcript")
    begin(tmp_path / "model", base, saw)
    with pytest.raises(InputProblems, match="the base was trained on the artist"):
        teach(tmp_path / "model", works, "red", seed=SEED, how=FEW)


def test_teaching_twice_or_without_works_is_refused(made):
    with pytest.raises(InputError, match="already"):
        teach(made, works_of("red"), "red", seed=SEED, how=FEW)
    with pytest.raises(InputError, match="no works") as caught:
        teach(made, works_of("red"), "green", seed=SEED, how=FEW)
    assert caught.value.code == "not_present"


# -------------------------------------------------------------------------------------------------------------- drawing


def test_the_asked_artists_adapter_draws_and_the_base_alone_is_untouched(made, base):
    how, prompt = Sampling(seed="cd", steps=3), [PROMPTS["red"]] * 2
    alone, red, blue = (composed(made, artist).sample(prompt, how) for artist in (None, "red", "blue"))
    assert (alone != red).any()
    assert (red != blue).any()
    model = composed(made, "red")
    noisy, times, words = torch.ones(1, 12, 4, 4), torch.tensor([500]), model.encode(prompt[:1])
    apart, flat = (model.with_unet(unet).predict(noisy, times, words) for unet in (model.unet, merged(model.unet)))
    assert torch.allclose(apart, flat, atol=1e-4)  # convolutions too
    under = without_adapter(model.unet).state_dict()
    assert all(torch.equal(under[name], old) for name, old in composed(made).unet.state_dict().items())


@pytest.mark.parametrize("what", ["unknown", "base", "adapter"])
def test_nothing_is_drawn_that_is_not_recorded(made, tmp_path, what):
    folder = tmp_path / "model"
    shutil.copytree(made, folder)
    if what == "unknown":
        with pytest.raises(InputError) as caught:
            composed(folder, "green")
        assert caught.value.code == "not_present"
        return
    place = folder / BASE / "README.md" if what == "base" else folder / read_manifest(folder).of("red").path
    other = folder / read_manifest(folder).of("blue").path
    place.write_bytes(other.read_bytes() if what == "adapter" else b"a word more")
    with pytest.raises(IntegrityError, match="recorded"):
        composed(folder, "red")


def colour(model, artist):
    return model.sample([PROMPTS[artist]] * 8, Sampling(seed="cd", steps=8)).mean((0, 1, 2))


def test_a_base_that_knows_only_blue_draws_red_with_reds_adapter_and_not_without(base, tmp_path):
    """What it is for: the style is in the file that is dropped, and nowhere else."""
    from expunge.training.text_to_image.sampler import TextToImage

    model = TextToImage.from_dir(base)
    loss = learned(model, works_of("blue"), SEED, 8)
    blue = tuned(model, loss, Tuning(steps=80, lr=0.005), changes="").model
    export(TextToImageNet(blue.unet, blue.text_encoder), tmp_path / "blue")
    folder = tmp_path / "model"
    begin(folder, tmp_path / "blue", saw_of(works_of("blue"), "tuned in a test"))
    teach(folder, random_pictures().train, "red", seed=SEED, how=Teaching(steps=60, lr=0.02, batch=8))
    alone, red = colour(composed(folder), "red"), colour(composed(folder, "red"), "red")
    assert alone[2] - alone[0] > 60
    assert red[0] - red[2] > 60
    done = drop(folder, "red", tmp_path / "dropped")
    assert done.base == read_directory(tmp_path / "blue").digest
    assert (colour(composed(tmp_path / "dropped"), "red") == alone).all()


# ------------------------------------------------------------------------------------------------------------- dropping


def test_dropping_leaves_the_base_and_the_others_to_the_last_bit(made, base, tmp_path):
    before = sha256_of(made / MANIFEST)
    done = drop(made, "red", tmp_path / "dropped")
    assert done.rung is StyleRung.EXACT
    assert done.base == read_directory(tmp_path / "dropped" / BASE).digest == read_directory(base).digest
    assert done.kept == {"blue": read_manifest(made).of("blue").weights}
    assert sha256_of(made / MANIFEST) == before
    assert b"red" not in (tmp_path / "dropped" / MANIFEST).read_bytes()
    assert judged(made, tmp_path / "dropped") == done
    last = drop(tmp_path / "dropped", "blue", tmp_path / "none")
    assert last.kept == {}


def test_what_is_left_is_what_a_training_without_red_ever_being_there_gives(made, base, tmp_path, dropped):
    folder = tmp_path / "never"
    begin(folder, base, NOBODY)
    teach(folder, random_pictures().train.in_style("blue"), "blue", seed=SEED, how=FEW)
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    assert {file: sha256_of(folder / file) for file in files} == {file: sha256_of(dropped / file) for file in files}
    assert len(files) == len([file for file in dropped.rglob("*") if file.is_file()])


def test_an_unknown_artist_is_not_present_and_nothing_is_written(made, tmp_path):
    with pytest.raises(InputError) as caught:
        drop(made, "green", tmp_path / "dropped")
    assert caught.value.code == "not_present"
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(made, dropped):
    with pytest.raises(InputError, match="exists already"):
        drop(made, "red", dropped)
    with pytest.raises(InputError, match="exists already"):
        begin(made, made / BASE, NOBODY)


def as_if(found, artist="red", **changes):
    """The records with one adapter's changed."""
    return replace(
        found, adapters=tuple(replace(item, **changes) if item.artist == artist else item for item in found.adapters)
    )


def forged(case, found):
    red = found.of("red")
    both = Saw(blocks=("blue", "red"), works=red.saw.works, source="a transcript")
    return {
        "a base that saw the artist": replace(found, base=replace(found.base, saw=replace(red.saw, works=()))),
        "a base that saw a work under another name": replace(
            found, base=replace(found.base, saw=Saw(blocks=("blue",), works=red.saw.works[:1], source="a transcript"))
        ),
        "an adapter of two artists": as_if(found, saw=both),
        "another's adapter that saw the artist": as_if(found, "blue", saw=both),
        "another's adapter that saw a work under its own name": as_if(
            found, "blue", saw=replace(found.of("blue").saw, works=red.saw.works[:1])
        ),
        "another's adapter over a base with the adapter in it": as_if(found, "blue", base="sha256:0"),
    }[case]


CASES = {
    "a base that saw the artist": "the base was trained on the artist",
    "a base that saw a work under another name": "the base was trained on the artist",
    "an adapter of two artists": "the artist's adapter was trained on 2 artists",
    "another's adapter that saw the artist": "another artist's adapter was trained on 2 artists",
    "another's adapter that saw a work under its own name": "trained on works of the artist",
    "another's adapter over a base with the adapter in it": "over another base",
}


@pytest.mark.parametrize("case", CASES)
def test_what_would_not_be_exact_is_refused_with_its_reason(made, tmp_path, case):
    folder = tmp_path / "model"
    shutil.copytree(made, folder)
    write_manifest(folder, forged(case, read_manifest(made)))
    with pytest.raises(InputProblems, match=CASES[case]) as caught:
        drop(folder, "red", tmp_path / "dropped")
    assert caught.value.code == "not-exact"
    assert not (tmp_path / "dropped").exists()


def test_an_artist_of_the_base_alone_has_no_compartment_to_drop(base, tmp_path):
    begin(tmp_path / "model", base, saw_of(works_of("red"), "a transcript"))
    with pytest.raises(InputError, match="the base itself was trained on the artist") as caught:
        drop(tmp_path / "model", "red", tmp_path / "dropped")
    assert caught.value.code == "not-exact"


@pytest.mark.parametrize(
    "name", ["adapters/old.safetensors", "backup.bin", "adapters/notes.json", "base/red.safetensors"]
)
def test_attack_adapter_left_beside(made, dropped, name):
    """Under any name, in any folder."""
    shutil.copyfile(made / read_manifest(made).of("red").path, dropped / name)
    with pytest.raises((IntegrityError, InputError), match=r"in no record|not the one that was recorded"):
        judged(made, dropped)


def test_attack_adapter_left_beside_as_a_link(made, dropped):
    (dropped / "adapters" / "old.safetensors").symlink_to(made / read_manifest(made).of("red").path)
    with pytest.raises(IntegrityError, match="is a link"):
        judged(made, dropped)


@pytest.mark.parametrize("covered", [False, True])
def test_attack_adapter_merged_into_the_base(made, dropped, covered):
    """Also when the owner writes the merged base's digest into the new manifest: the verifier kept the old one."""
    net = composed(made, "red")
    shutil.rmtree(dropped / BASE)
    export(TextToImageNet(merged(net.unet), net.text_encoder), dropped / BASE)
    if covered:
        found = read_manifest(dropped)
        rewritten(dropped, base=replace(found.base, digest=read_directory(dropped / BASE).digest))
    with pytest.raises(IntegrityError, match=r"the base is not|the manifest is not"):
        judged(made, dropped)


@pytest.mark.parametrize("covered", [False, True])
def test_attack_adapter_hidden_in_another_artists_file(made, dropped, covered):
    found = read_manifest(dropped)
    blue = dropped / found.of("blue").path
    hidden = {f"more.{name}": tensor for name, tensor in load_file(made / read_manifest(made).of("red").path).items()}
    save_file({**load_file(blue), **hidden}, blue)
    if covered:
        record = replace(found.of("blue"), file=sha256_of(blue), weights=TensorManifest.of_file(blue).root)
        blue.replace(dropped / record.path)
        rewritten(dropped, adapters=(record,))
    with pytest.raises(IntegrityError, match=r"is not the adapter|the manifest is not"):
        judged(made, dropped)


def test_attack_adapter_that_was_in_another_file_from_the_beginning(made, tmp_path):
    """Then the records vouch for the file, and only a search for its tensors finds it."""
    folder = tmp_path / "model"
    shutil.copytree(made, folder)
    found = read_manifest(folder)
    blue = folder / found.of("blue").path
    save_file({**load_file(blue), **{f"x.{k}": v for k, v in load_file(folder / found.of("red").path).items()}}, blue)
    record = replace(found.of("blue"), file=sha256_of(blue), weights=TensorManifest.of_file(blue).root)
    blue.replace(folder / record.path)
    rewritten(folder, adapters=(record, found.of("red")))
    with pytest.raises(IntegrityError, match="holds weights of the dropped adapter"):
        drop(folder, "red", tmp_path / "dropped")
    assert not (tmp_path / "dropped").exists()


def test_attack_record_left_in_the_manifest(made, dropped):
    """A record lists the artist's works."""
    write_manifest(dropped, read_manifest(made))
    with pytest.raises(IntegrityError, match="the manifest is not"):
        judged(made, dropped)


def test_attack_something_hidden_in_the_manifest(dropped, made):
    plain = encode(read_manifest(dropped))
    (dropped / MANIFEST).write_bytes(canonical({**plain, "spare": "00ff"}))
    with pytest.raises(InputProblems, match="unknown field"):
        judged(made, dropped)


def test_a_directory_that_is_not_as_recorded_is_not_dropped_from(made, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(made, folder)
    (folder / read_manifest(folder).of("blue").path).unlink()
    with pytest.raises(IntegrityError, match="is not the adapter"):
        drop(folder, "red", tmp_path / "dropped")
    with pytest.raises(InputError, match="no directory of compartments"):
        drop(tmp_path, "red", tmp_path / "dropped")


def test_pictures_are_known_by_their_pixels_whatever_they_are_called():
    works = works_of("red")
    renamed = Pictures(
        ids=tuple(f"other/{n}" for n in range(len(works))),
        images=works.images,
        captions=("another caption",) * len(works),
        styles=works.styles,
        objects=works.objects,
        blocks=("blue",) * len(works),
    )
    assert saw_of(renamed, "").works == saw_of(works, "").works


@pytest.mark.parametrize("bad", [{"rank": 0}, {"scale": 0}, {"steps": 0}, {"lr": 0}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match="out of range"):
        Teaching(**bad)
