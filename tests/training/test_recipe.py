import pytest

from expunge.core.errors import InputError, InputProblems
from expunge.training.recipe import Recipe, built_in_recipes, load_any_recipe, load_recipe, parse_recipe

GOOD = {"name": "t", "family": "mlp", "epochs": 2, "batch": 8, "lr": 0.1}


@pytest.mark.parametrize("name", built_in_recipes())
def test_every_recipe_that_ships_can_be_read_and_names_its_file(name):
    assert load_any_recipe(name).name == name


def test_the_digest_changes_with_every_field():
    changed = {
        "name": "u",
        "family": "resnet",
        "model": {"width": 3},
        "epochs": 3,
        "batch": 9,
        "lr": 0.2,
        "warmup": 0.3,
        "final_lr": 0.1,
        "momentum": 0.8,
        "weight_decay": 0.1,
        "bias_lr": 2.0,
        "label_smoothing": 0.1,
        "averaging": 0.1,
        "crop": 1,
        "flip": "random",
        "cutout": 1,
        "precision": "bf16",
        "threads": 3,
        "device": "cuda",
        "test_augment": "flip",
        "introduce": (0.0, 0.5),
        "shards": 2,
        "bank_inclusion": 0.4,
    }
    assert set(changed) == set(Recipe.model_fields), "a new field must be tried here too"
    digests = {parse_recipe({**GOOD, name: value}).digest for name, value in changed.items()}
    assert len(digests | {parse_recipe(GOOD).digest}) == len(changed) + 1


def test_unknown_field_and_every_bad_value_are_reported_at_once():
    with pytest.raises(InputProblems) as caught:
        parse_recipe({**GOOD, "learning_rate": 0.1, "epochs": 0, "batch": -1, "lr": 0, "flip": "sometimes"})
    text = " ".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    assert all(name in text for name in ("learning_rate", "epochs", "batch", "lr", "flip"))


@pytest.mark.parametrize("missing", GOOD)
def test_missing_field_is_named(missing):
    with pytest.raises(InputProblems, match=missing):
        parse_recipe({key: value for key, value in GOOD.items() if key != missing})


BAD = [
    ("introduce", (0.1,)),
    ("introduce", ()),
    ("introduce", (0.0, 0.5, 0.4)),
    ("introduce", (0.0, 1.0)),
    ("weight_decay", float("inf")),
    ("weight_decay", float("nan")),
    ("momentum", 1.0),
    ("bank_inclusion", 0.0),
    ("averaging", 1.0),
    ("warmup", float("nan")),
    ("shards", 65),
    ("device", "tpu"),
    ("precision", "fp64"),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_value_out_of_range_is_refused(field, value):
    with pytest.raises(InputProblems, match=field):
        parse_recipe({**GOOD, field: value})


@pytest.mark.parametrize("text", ["- a list\n", "just text\n", "a: b: c\n", "", "\x00"])
def test_file_that_is_no_recipe_is_refused(tmp_path, text):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(InputError):
        load_recipe(str(file))


def test_yaml_may_not_make_python_objects(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("name: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(InputError, match="uses tags"):
        load_recipe(str(file))


def test_binary_file_is_refused(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError):
        load_recipe(str(tmp_path / "r.yaml"))


def test_unknown_recipe_lists_what_there_is():
    with pytest.raises(InputError) as caught:
        load_recipe("nosuch")
    assert "digits" in caught.value.expected
