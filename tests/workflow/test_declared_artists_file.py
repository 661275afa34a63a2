"""artists.yaml: what is refused before a workspace is made of it, and that it cannot be changed afterwards."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from declared_files import ARTISTS, CONTROLS, colour_works, declaration, entry, write_declared, write_pictures
from expunge import Workspace
from expunge.apps.cli.main import app
from expunge.core.errors import InputError, InputProblems, IntegrityError
from expunge.data._pictures import PictureSet
from expunge.testing.generators import random_pictures
from expunge.testing.judges import tiny_vision
from expunge.training.judging.references import shrunk
from expunge.training.recipe import parse_any_recipe
from expunge.workflow.config import JudgeTable, StylesTable
from expunge.workflow.policy import GENERATOR
from expunge.workflow.styles import declared
from expunge.workflow.styles.declaration import parse_declaration
from expunge.workflow.styles.declared import DECLARED, check_declared, load_declared, parted
from expunge.workflow.styles.evidence import asked_digest, looked_through
from expunge.workflow.styles.judges import judges_for
from expunge.workflow.styles.roster import InventedArtists
from picture_files import TINY

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = {"model": {"seed": "00112233445566778899aabbccddeeff"}, "compute": {"engine": "inline://"}}


@pytest.fixture
def unsearched(monkeypatch):
    """Without the search for works that were seen before, which has tests of its own."""
    monkeypatch.setattr(declared, "_seen_before", lambda *_: ())


def problems(plain):
    with pytest.raises(InputProblems) as caught:
        parse_declaration(json.dumps(plain))
    return " | ".join(caught.value.problems)


def changed(place, number, **changes):
    """The file with one artist or control changed."""
    plain = declaration()
    plain[place][number] = {**plain[place][number], **changes}
    return plain


def test_the_file_is_read_and_asks_by_name_alias_title_language_and_misspelling(tmp_path):
    found = load_declared(StylesTable(artists=str(write_declared(tmp_path))), tmp_path, 8)
    wording = found.wording("red")
    assert [wording.direct("automobile", n) for n in range(3)] == [
        "a car image in red style",
        "a car in red style",
        "a car image in red style",
    ]
    assert wording.other["alias"]("automobile", 1) == "a car in rouge style"
    assert wording.other["de"]("automobile", 0) == "ein Bild von red: ein Auto"
    assert wording.other["titles"]("automobile", 0) == "a car, number nine by the sea, 3"
    wrong = {wording.other["misspelt"]("automobile", n) for n in range(6)}
    assert "a car image in red style" not in wrong
    assert len(wrong) == 3
    assert (wording.neutral("automobile"), wording.described("automobile", 0)) == ("a car", "a car in one colour")
    assert wording.open_("automobile") == "a car image in * style"


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        (changed("artists", 0, aliases=[]), "red: no alias"),
        (changed("artists", 0, languages={"alias": ["a {object} by {name}"]}), "a language cannot be called alias"),
        (changed("artists", 0, aliases=["Bleu"]), "red and blue overlap: Bleu"),
        (changed("artists", 0, aliases=["light blue"]), "red and blue overlap: blue"),
        (changed("controls", 0, name="Red"), "red and Red overlap"),
        (changed("controls", 0, block="red"), "overlap"),
        (changed("artists", 0, works=["works/blue"]), "a folder of works in common"),
        ({**declaration(), "neutral": "{object}, not by ROUGE"}, "names rouge"),
        ({**declaration(), "objects": {"automobile": {"en": "a red car", "de": "x"}}}, "names red"),
        (changed("artists", 0, described=["{object} as by rouge"]), "the description"),
        ({**declaration(), "controls": [entry(name) for name in CONTROLS[:3]]}, "4 styles that no training saw"),
        ({**declaration(), "artists": [entry("red")]}, "two at least"),
        (changed("artists", 0, captions=["{object} image"]), "{name} and {object} once each"),
        (changed("artists", 0, captions=["{object} by {name} *"]), "no other brace or '*'"),
        (changed("artists", 0, captions=["{object} by {name} {name.__class__}"]), "once each"),
        (changed("artists", 0, languages={"fr": ["{object} de {name}"]}), "objects without words in 'fr'"),
        (changed("artists", 0, neighbours=["nobody"]), "neighbours that are no other artist"),
        (changed("artists", 0, works=["../elsewhere"]), "without '..'"),
        (changed("artists", 0, works=["/etc"]), "without '..'"),
        (changed("artists", 0, block="photo"), "pictures by nobody"),
        (changed("artists", 0, aliases=["a\u0000b"]), "printable"),
        ({**declaration(), "version": 2}, "version: 1 expected"),
        ({**declaration(), "more": 1}, "unknown field"),
    ],
)
def test_what_would_ask_wrongly_is_refused(plain, said):
    assert said in problems(plain)


def test_all_problems_are_told_at_once():
    plain = changed("artists", 0, aliases=[], described=["rouge {object}"])
    plain["controls"] = plain["controls"][:2]
    assert problems(plain).count(" | ") >= 1


@pytest.mark.parametrize(
    "text", ["a: &x [1]\nb: *x", "!!python/object/apply:os.system ['true']", "a: 1\na: 2", "[" * 50]
)
def test_attack_yaml_that_does_more_than_say_is_refused(text):
    with pytest.raises(InputError):
        parse_declaration(text)


# ---------------------------------------------------------------------------------------------- against the training data


def checked(folder, plain=None, train=None, each=104):
    """What is wrong with the declared works beside this training data."""
    file = write_declared(folder, plain, each)
    data = random_pictures()
    raw: PictureSet = replace(data, train=train or data.train)
    with pytest.raises(InputProblems) as caught:
        check_declared(StylesTable(artists=str(file)), folder, raw)
    return " | ".join(caught.value.problems)


def trained_on(image=None, **columns):
    """The training data with one record changed."""
    train = random_pictures().train
    images = train.images.copy()
    if image is not None:
        images[0] = image
    texts = {name: (value, *getattr(train, name)[1:]) for name, value in columns.items()}
    return replace(train, images=images, **texts)


def test_attack_a_control_that_was_trained_on_is_refused_by_its_pixels(tmp_path):
    assert checked(tmp_path, train=trained_on(colour_works("green")[5])) == (
        "green: works/green/005.png is in the training data, or is much like a work that is"
    )


def test_attack_a_trained_control_that_was_changed_a_little_is_refused_all_the_same(tmp_path):
    work = np.clip(colour_works("green")[5].astype(int) + 3, 0, 255).astype(np.uint8)[:, ::-1]
    assert "green: works/green/005.png is in the training data" in checked(tmp_path, train=trained_on(work))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"styles": "green"}, "works under this name"),
        ({"blocks": "vert"}, "works under this name"),
        ({"captions": "a car, painted by Vert"}, "a caption of the training data names it"),
    ],
)
def test_attack_a_control_that_the_training_data_name_is_refused(tmp_path, unsearched, columns, said):
    assert f"control green: {said}" in checked(tmp_path, train=trained_on(**columns))


def test_one_work_under_two_artists_or_twice_is_refused(tmp_path):
    works = colour_works("red")
    works[3], works[9] = colour_works("blue")[0], works[8]
    write_pictures(tmp_path / "works" / "red", works)
    found = checked(tmp_path)
    assert "works/red/003.png is the same picture as works/blue/000.png of blue" in found
    assert "works/red/008.png is the same picture as works/red/009.png of red" in found


def test_too_few_works_and_objects_that_nobody_declared_are_refused(tmp_path, unsearched):
    write_pictures(tmp_path / "works" / "cyan", colour_works("cyan"), thing="boat")
    found = checked(tmp_path, each=60)
    assert "red: 60 works that nothing was trained on; 100 are needed" in found
    assert "cyan: works of objects that are not declared: 'boat'" in found


def test_what_attacks_are_given_judges_are_made_of_and_show_on_has_nothing_in_common(tmp_path):
    found = load_declared(StylesTable(artists=str(write_declared(tmp_path))), tmp_path, 8)
    for style in (*ARTISTS, *CONTROLS, "photo"):
        parts = parted(found.works[style])
        assert [len(rows) for rows in parts.values()] == [52, 31, 21]
        assert sorted(row for rows in parts.values() for row in rows) == list(range(104))
    attack = {image.tobytes() for image in found.suspect("red").works.images}
    judges = {image.tobytes() for image in found.references()["red"].images}
    shown = {image.tobytes() for image in found.held_out().images}
    assert len(attack | judges | shown) == len(attack) + len(judges) + len(shown)


@pytest.mark.parametrize("alike", ["green", "blue"])
def test_attack_a_control_or_a_neighbour_that_looks_like_the_artist_ends_in_no_verdict(tmp_path, alike):
    """Judges who cannot tell the artist from it would call either by either's name. Control: an artist like nobody is told."""
    write_pictures(tmp_path / "works" / alike, colour_works("red", seed=99))
    plain = changed("artists", 0, neighbours=["blue"])
    roster = load_declared(StylesTable(artists=str(write_declared(tmp_path, plain))), tmp_path, 8)
    judges = judges_for(SimpleNamespace(judges=()), tmp_path, roster)

    def objection(target):
        material = SimpleNamespace(
            roster=roster, target=target, controls=roster.controls, suspects={target: roster.suspect(target)}
        )
        return looked_through(SimpleNamespace(), material, list(judges))[2]

    assert "cannot see this style" in objection("red")
    assert alike == "blue" or objection("blue") == ""


# -------------------------------------------------------------------------------------------------------- in a workspace


def new(root, file, **tables):
    from selftest.colours import _write

    if not (root.parent / "works").exists():
        _write(root.parent / "works")
    data = {"source": "picture_folder", "path": str(root.parent / "works"), "options": {"size": 8}}
    config = {**CONFIG, "data": data, "styles": {"artists": str(file)}, **tables}
    return Workspace.create(root, config=config, recipe=parse_any_recipe(TINY), policy=GENERATOR)


def test_attack_a_declaration_that_is_changed_after_it_was_logged_is_refused(tmp_path, unsearched):
    file = write_declared(tmp_path / "declared")
    with new(tmp_path / "ws", file) as workspace:
        logged = [entry.payload for entry in workspace.log.entries() if entry.kind == DECLARED]
        assert len(logged) == 1
        assert set(logged[0]) == {"artists"}
        assert workspace.roster.styles == (*ARTISTS, *CONTROLS)
        asked = asked_digest(workspace)
        assert b"rouge" not in (workspace.root / "log.db").read_bytes()
    kinder = changed("controls", 0, described=["{object} in another colour"])
    write_declared(tmp_path / "declared", kinder)
    with Workspace.open(tmp_path / "ws") as workspace, pytest.raises(IntegrityError, match="not what was declared"):
        asked_digest(workspace)
    write_declared(tmp_path / "declared")
    with Workspace.open(tmp_path / "ws") as workspace:
        assert asked_digest(workspace) == asked
    toml = tmp_path / "ws" / "expunge.toml"
    said = toml.read_text()
    toml.write_text("".join(line for line in said.splitlines(keepends=True) if not line.startswith("artists =")))
    with Workspace.open(tmp_path / "ws") as workspace, pytest.raises(IntegrityError, match="names no file of them"):
        _ = workspace.roster
    toml.write_text(said)
    (tmp_path / "declared" / "works" / "white" / "000.png").write_bytes(
        (tmp_path / "declared" / "works" / "white" / "001.png").read_bytes()
    )
    with Workspace.open(tmp_path / "ws") as workspace, pytest.raises(IntegrityError, match="or a work beside it"):
        asked_digest(workspace)


def test_the_verb_init_takes_the_file_or_says_all_that_is_wrong_with_it(tmp_path, unsearched):
    from selftest.colours import _write

    _write(tmp_path / "works")
    file = write_declared(tmp_path / "declared", changed("artists", 0, aliases=[]))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(parse_any_recipe(TINY).model_dump_json())
    verb = ["init", str(tmp_path / "ws"), "--source", "picture_folder", "--data", str(tmp_path / "works")]
    verb += ["--option", "size=8", "--recipe", str(recipe), "--artists", str(file)]
    refused = CliRunner().invoke(app, verb)
    assert "red: no alias" in str(refused.exception.problems)
    assert not (tmp_path / "ws").exists()
    write_declared(tmp_path / "declared")
    assert CliRunner().invoke(app, verb).exit_code == 0
    assert f'artists = "{file}"' in (tmp_path / "ws" / "expunge.toml").read_text()


def test_large_pictures_are_held_against_the_data_as_averages():
    """Or declaring works at 512 pixels would take hours; what is the same is found all the same."""
    large = np.repeat(np.repeat(colour_works("red", 3), 16, axis=1), 16, axis=2)
    assert (shrunk(large) == np.repeat(np.repeat(colour_works("red", 3), 8, axis=1), 8, axis=2)).all()
    assert shrunk(colour_works("red", 3)).shape == (3, 8, 8, 3)


def test_artists_declared_after_the_workspace_was_made_are_refused(tmp_path, unsearched):
    file = write_declared(tmp_path / "declared")
    with new(tmp_path / "ws", file) as workspace:
        root = workspace.root
        workspace.log = SimpleNamespace(entries=list, close=workspace.log.close)  # a log that has no declaration
        with pytest.raises(IntegrityError, match="not what was declared"):
            _ = workspace.roster
    assert (root / "expunge.toml").read_text().count("artists = ") == 1


@pytest.mark.parametrize(
    ("judges", "said"),
    [  # the story has two families that can
        ([{"name": "reference_network"}], "too few families"),
        ([{"name": "cnn"}, {"name": "adain"}], "no name for"),
        ([{"name": "reference_statistics"}, {"name": "embedder", "options": {"weights": "nowhere"}}], "no weights"),
        ([{"name": "reference_network", "options": {"speed": 3}}], "no such option"),
        ([{"name": "reference_network", "options": {"objects": "x"}}], "no such option"),
    ],
)
def test_judges_that_could_not_judge_are_refused_before_anything_is_written(tmp_path, unsearched, judges, said):
    file = write_declared(tmp_path / "declared")
    with pytest.raises(InputError, match=said):
        new(tmp_path / "ws", file, judges=judges)
    assert not (tmp_path / "ws").exists()


def test_the_judges_that_are_named_look_and_their_options_are_in_what_a_plan_fixes(tmp_path, unsearched):
    file = write_declared(tmp_path / "declared")
    named = [{"name": "reference_statistics"}, {"name": "reference_network", "options": {"steps": 7}}]
    with new(tmp_path / "first", file, judges=named) as workspace:
        assert [judge.name for judge in workspace.judges] == ["reference_statistics", "reference_network"]
        first = asked_digest(workspace)
    named[1]["options"] = {"steps": 8}
    with new(tmp_path / "second", file, judges=named) as workspace:
        assert workspace.judges[1].steps == 8
        assert asked_digest(workspace) != first


def test_an_embedder_of_the_users_own_is_made_of_the_declared_works_and_is_one_of_two_families(tmp_path):
    """With random weights it still tells colours apart; its folder is taken from the workspace."""
    roster = load_declared(StylesTable(artists=str(write_declared(tmp_path))), tmp_path, 8)
    tiny_vision(tmp_path / "ws" / "vision")
    named = (
        JudgeTable(name="embedder", options={"weights": "vision", "k": 5}),
        JudgeTable(name="reference_statistics"),
    )
    judges = judges_for(SimpleNamespace(judges=named), tmp_path / "ws", roster)
    assert [judge.family for judge in judges] == ["embedding", "random-filter statistics"]
    material = SimpleNamespace(
        roster=roster, target="red", controls=roster.controls, suspects={"red": roster.suspect("red")}
    )
    sights, mistakes, why = looked_through(SimpleNamespace(), material, list(judges))
    assert why == ""
    assert mistakes < 0.05
    assert [sight.held_out[1] for sight in sights] == [7 * 52] * 2
    assert all(hits > 0.9 * n for hits, n in (sight.held_out for sight in sights))


def test_invented_artists_are_a_roster_like_any_other():
    from expunge.workflow.styles.declared import Declared

    wanted = {"styles", "controls", "objects", "digest", "judges", "scale"}
    wanted |= {"wording", "suspect", "photos", "near", "held_out", "references"}
    assert all(hasattr(kind, name) for kind in (InventedArtists, Declared) for name in wanted)
