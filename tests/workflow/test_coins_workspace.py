from functools import partial

import numpy as np
import pytest

from expunge import Workspace
from expunge.checks.coins import Coins
from expunge.core.finding import Guarantee, Verdict
from expunge.core.policy import Limits
from expunge.core.protocols import CheckJob
from expunge.farm.member import true_log_probabilities
from expunge.training.recipe import load_recipe, parse_recipe
from expunge.workflow.coins import coins_of
from expunge.workflow.intake import resolve
from workspaces import vouch_for


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    config = {"data": {"source": "digits", "options": {"coins": 162}}, "compute": {"executor": "inline"}}
    recipe = parse_recipe({**load_recipe("digits").model_dump(), "epochs": 16})
    with Workspace.create(tmp_path_factory.mktemp("coins") / "ws", config=config, recipe=recipe) as made:
        made.train()
        vouch_for(made)
        yield made


def answers(workspace, run):
    model = workspace.adapter.load(workspace.root / run / "model.safetensors")
    return partial(true_log_probabilities, workspace.adapter, model)


def asked(workspace, **request):
    return resolve(workspace, workspace.request(**request))


def test_the_key_is_drawn_at_init_and_committed_before_anything_is_trained(workspace):
    key = workspace.config.data.options["coins_key"]
    assert len(bytes.fromhex(key)) == 32
    first = next(iter(workspace.log.entries()))
    assert first.kind == "workspace.created"
    assert first.payload["coins"]["m"] == 162
    assert first.payload["coins"]["key"].startswith("sha256:")
    assert key not in str(first.payload)


def test_a_request_for_a_part_of_the_heads_has_no_coins(workspace):
    heads = [workspace.book.ids[slot] for slot in workspace.book.in_block("coins")]
    own = answers(workspace, "store/runs/original")
    assert coins_of(workspace, asked(workspace, ids=heads[:-1]), candidate=own, original=own) is None
    assert coins_of(workspace, asked(workspace, ids=[workspace.book.ids[0]]), candidate=own, original=own) is None


def test_heads_mixed_unmarked_into_a_larger_request_count(workspace):
    heads = [workspace.book.ids[slot] for slot in workspace.book.in_block("coins")]
    others = [name for name in workspace.book.ids if name not in heads][:5]
    own = answers(workspace, "store/runs/original")
    assert coins_of(workspace, asked(workspace, ids=[*others, *heads]), candidate=own, original=own) is not None


def test_an_untouched_model_fails_and_the_released_one_passes_after_the_block_is_deleted(workspace):
    case = workspace.request(block="coins")
    resolution = resolve(workspace, case)
    own = answers(workspace, "store/runs/original")
    coins = coins_of(workspace, resolution, candidate=own, original=own)
    assert np.array_equal(coins.trained, workspace.data.coins.trained)
    job = CheckJob(limits=Limits(), guarantee=Guarantee.EXACT, seed=1, coins=coins)
    assert Coins().run(job).verdict is Verdict.FAIL
    assert Coins().run(job).original > Coins.coin_accuracy
    workspace.run(case, ["retrain"])
    served = answers(workspace, workspace.served().run)
    assert coins_of(workspace, resolution, candidate=served, original=served) is None  # the heads are gone
    logs = served(workspace.data.coins.images, workspace.data.coins.labels)
    after = CheckJob(
        limits=Limits(), guarantee=Guarantee.EXACT, seed=1,
        coins=type(coins)(trained=coins.trained, candidate=logs, original=coins.original),
    )  # fmt: skip
    assert Coins().run(after).verdict is not Verdict.FAIL


def test_a_workspace_without_coins_has_none(tmp_path):
    config = {"data": {"source": "digits", "options": {"canaries": 0}}, "compute": {"executor": "inline"}}
    recipe = parse_recipe({**load_recipe("digits").model_dump(), "epochs": 1})
    with Workspace.create(tmp_path / "ws", config=config, recipe=recipe) as plain:
        plain.train()
        resolution = asked(plain, ids=[plain.book.ids[0]])
        assert coins_of(plain, resolution, candidate=None, original=None) is None
        assert "coins" not in next(iter(plain.log.entries())).payload
