"""The two judges that ship: what they see, what they do not fall for, and that their weights are the measured ones."""

import io
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from expunge.core import registry
from expunge.core.codec import canonical, decode
from expunge.core.errors import IntegrityError
from expunge.data._styles import CONTROLS, STYLES, TRAINED
from expunge.data.artist_styles import OBJECTS, painted
from expunge.judges.adain import AdaIn
from expunge.judges.cnn import Cnn
from expunge.training.judging.calibration import Calibration, blindness, calibrate
from expunge.training.judging.judge import OTHER, Judge, JudgeMissing, SeesFeatures, votes_of
from expunge.training.judging.pictures import GARBAGE, STRANGE, draw_of, garbage_of, with_stamp
from expunge.training.judging.random_features import FILTERS, features, filters
from judges.judging_hands import painted_patches, photo_patches

JUDGES = (Cnn, AdaIn)
WEIGHTS = Path(registry.load("judges", "cnn")().folder)


@pytest.fixture(scope="module")
def judges():
    return [kind() for kind in JUDGES]


@pytest.mark.parametrize("kind", JUDGES)
def test_it_is_a_judge_with_all_styles_and_one_for_nothing(kind):
    judge = kind()
    assert isinstance(judge, Judge)
    assert judge.styles == (*STYLES, OTHER)
    assert judge.digest == kind().digest
    assert len(judge.judge(np.zeros((0, 32, 32, 3), np.uint8))) == 0


def test_the_features_are_what_both_heads_read_off():
    """So a distance between features is one between what the judge can tell apart, and of no other network."""
    judge, images = Cnn(), np.concatenate([photo_patches()[:20], np.zeros((1, 32, 32, 3), np.uint8)])
    found, tensors = judge.features(images), judge.read[1]
    weight, bias = (tensors[f"20.{name}"].numpy() for name in ("weight", "bias"))
    logits = found @ weight.T + bias
    said, cut = judge.judge(images), len(judge.styles)
    for part, heads in ((logits[:, :cut], said.shares), (logits[:, cut:], said.things)):
        powers = np.exp(part - part.max(axis=1, keepdims=True))
        assert np.allclose(powers / powers.sum(axis=1, keepdims=True), heads, atol=1e-5)
    assert judge.features(images[:0]).shape == (0, 96)
    assert isinstance(judge, SeesFeatures)
    assert not isinstance(AdaIn(), SeesFeatures)
    assert "cnn" in judge.space


def test_families_differ_and_files_are_small(judges):
    assert len({judge.family for judge in judges}) == 2
    assert (WEIGHTS / "cnn.safetensors").stat().st_size <= 600_000
    assert (WEIGHTS / "adain.safetensors").stat().st_size <= 50_000


@pytest.mark.parametrize("kind", JUDGES)
def test_weights_that_are_not_the_measured_ones_are_refused(kind, tmp_path):
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))
    file = folder / f"{kind.name}.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-100] ^= 1
    file.write_bytes(raw)
    with pytest.raises(IntegrityError, match="not the file that was measured"):
        kind(weights=folder).judge(photo_patches()[:1])
    file.unlink()
    with pytest.raises(JudgeMissing, match="are not there"):
        kind(weights=folder).judge(photo_patches()[:1])


def test_a_changed_recipe_is_refused(tmp_path):
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))
    made = json.loads((folder / "cnn.json").read_text())
    made["recipe"]["batch"] += 1
    (folder / "cnn.json").write_text(json.dumps(made))
    with pytest.raises(IntegrityError, match="recipe was changed"):
        Cnn(weights=folder).judge(photo_patches()[:1])


@pytest.mark.parametrize("kind", JUDGES)
def test_the_manifest_holds_a_calibration_of_these_weights(kind):
    made = kind().made
    found = decode(Calibration, made.held_out)
    assert found.digest == kind().digest
    assert found.n == sum(map(sum, found.confusion))
    assert made.command.startswith("python benchmarks/artist_style/judges.py")
    canonical(made.held_out)


@pytest.mark.parametrize("kind", JUDGES)
def test_no_style_is_blind_in_the_manifest_unless_it_is_named_here(kind):
    found = decode(Calibration, kind().made.held_out)
    blind = {style for style in STYLES if blindness(found, style)}
    assert blind == BLIND[kind.name]


BLIND = {"cnn": set(), "adain": {"photo"}}
"""No artist's: random filters take a plain photo for pixels or watercolour, and a photo is nobody's style."""


@pytest.mark.parametrize("style", [style for style in (*TRAINED, *CONTROLS) if style != "photo"])
def test_both_families_agree_on_photos_that_no_judge_has_seen(judges, style):
    images = painted_patches(style)
    found = votes_of(style, [judge.judge(images) for judge in judges])
    assert found.agreed + found.disputed >= 0.8 * found.n
    assert found.agreed >= 0.6 * found.n
    assert found.at_most == found.agreed + found.disputed + found.nowhere


@pytest.mark.parametrize("kind", [*GARBAGE, *STRANGE])
def test_garbage_is_no_artists_style(judges, kind):
    """A sink style would call a ruined model the artist's, or hide the artist among the ruins."""
    images = garbage_of(_patches(), 60, "test", (kind,)).images
    answers = [judge.judge(images) for judge in judges]
    for style in STYLES:
        if style == "photo":
            continue
        limit = 0.1 if kind in GARBAGE else 0.35
        assert votes_of(style, answers).agreed <= limit * len(images), (style, kind)


def _patches():
    return painted({name: photo_patches() for name in OBJECTS[:1]}, dict.fromkeys(STYLES, 12), "test")


@pytest.mark.parametrize("target", ["neon", "halftone", "cyanotype"])
def test_a_watermark_of_the_target_does_not_turn_other_pictures_into_it(judges, target):
    """A forger who stamps the target into honest pictures must not turn both families."""
    marks = painted_patches(target, "mark")
    for style in ("oil", "mosaic", "photo", "pop art"):
        plain = painted_patches(style)
        images = np.stack(
            [with_stamp(a, b, draw_of(f"{style}/{n}")) for n, (a, b) in enumerate(zip(plain, marks, strict=True))]
        )
        found = votes_of(target, [judge.judge(images) for judge in judges])
        assert found.agreed <= 0.05 * found.n, style


def test_random_filters_are_the_keyed_ones_and_statistics_equal_loops():
    import torch

    bank = filters()
    assert bank.shape == (FILTERS, 3, 5, 5)
    torch.testing.assert_close(bank.flatten(1).norm(dim=1), torch.ones(FILTERS))
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    responses = np.array(
        [
            [max(0.0, float((image[0, :, y : y + 5, x : x + 5] * part).sum())) for y in range(4) for x in range(4)]
            for part in bank
        ]
    )
    expected = np.concatenate([responses.mean(axis=1), responses.std(axis=1, ddof=1)])
    np.testing.assert_allclose(features(image)[0], expected, atol=1e-4)


def _test_photos(folder, every=12):
    """Photos of CIFAR-10's test split, without decoding the other 59,000."""
    import pyarrow.parquet as pq
    from PIL import Image

    from expunge.data.cifar10 import CLASSES

    table = pq.ParquetFile(folder / "cifar10-test.parquet").read()
    table = table.take(list(range(0, table.num_rows, every)))
    found = {name: [] for name in OBJECTS}
    for cell, label in zip(table.column("img").to_pylist(), table.column("label").to_pylist(), strict=True):
        if CLASSES[label] in found:
            found[CLASSES[label]].append(np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")))
    return {name: np.stack(images) for name, images in found.items()}


@pytest.mark.shared
@pytest.mark.parametrize(("kind", "floor"), [(Cnn, 0.95), (AdaIn, 0.9)])
def test_styles_of_real_held_out_pictures(shared, kind, floor):
    pictures = painted(_test_photos(shared / "cifar10"), dict.fromkeys(STYLES, 5), "again")
    found = calibrate(kind(), pictures, {name: style.neighbours for name, style in STYLES.items()})
    assert Counter(pictures.styles)["neon"] == 25
    assert found.all_styles.n == 450
    assert found.all_styles.share >= floor
