"""A second holder signs only what they recomputed, from the records the certificate names, whatever the package says."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from expunge import Workspace
from expunge.core.codec import canonical, decode, digest_of, encode, loads
from expunge.core.errors import EvidenceError, ExpungeError
from expunge.core.plan import Plan
from expunge.evidence.bundle import read_bundle, zip_bytes
from expunge.evidence.envelope import payload_of, sign_envelope
from expunge.evidence.keys import load_signer
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.statement import build_statement, parse_statement
from expunge.workflow.recompute import recompute

X = "train/7/0007"


@dataclass
class Case:
    """An honest certificate and package of the deletion of X (slot x), and the owner's keys to sign another; Y is in slot y."""

    workspace: Path
    bundle: Path
    package: dict[str, Any]
    x: int
    y: int

    def certify(self, target: Path, model: str = "", **plan: Any) -> Path:
        """The certificate signed by the owner again, with another model or plan."""
        files = dict(read_bundle(self.bundle).files)
        predicate = parse_statement(payload_of(loads(files["certificate.json"]))).predicate
        if model:
            predicate = replace(predicate, models=replace(predicate.models, after=model), sentence="")
        if plan:
            changed = replace(decode(Plan, loads(files["plan.json"])), **plan)
            files["plan.json"] = canonical(encode(changed))
            predicate = replace(predicate, plan=replace(predicate.plan, digest=digest_of(changed)), sentence="")
        signers = [load_signer(f"file:{self.workspace / 'keys' / name}.pem") for name in ("operator", "verifier")]
        files["certificate.json"] = canonical(encode(sign_envelope(build_statement(predicate), signers)))
        target.write_bytes(zip_bytes(files))
        return target


@pytest.fixture(scope="module")
def case(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("recompute") / "ws"))
    with Workspace.open(folder) as workspace:
        (x,) = workspace.book.slots_of([X])
        outcome = workspace.run(workspace.request(ids=[X]))
    bundle = outcome.certificate.path
    return Case(folder, bundle, json.loads((bundle.parent / "recompute.json").read_text()), x, x + 1)


@pytest.fixture
def second(tmp_path: Path) -> str:
    FileSigner.create(tmp_path / "second.pem")
    return f"file:{tmp_path / 'second.pem'}"


def attempt(tmp_path: Path, key: str, bundle: Path, package: dict[str, Any]) -> Any:
    (tmp_path / "package.json").write_bytes(canonical(package))
    out = tmp_path / "cosignature.json"
    result = recompute(bundle, tmp_path / "package.json", data=None, key=key, by="B", out=out)
    assert out.exists()
    return result


def refused(tmp_path: Path, key: str, bundle: Path, package: dict[str, Any], said: str) -> None:
    with pytest.raises(ExpungeError, match=said):
        attempt(tmp_path, key, bundle, package)
    assert not (tmp_path / "cosignature.json").exists()


def trained_on_x_under_the_name_of_y(case: Case, run: Path) -> str:
    """The digest of a model that contains X: its pixels are served in Y's slot, X's own slot is empty."""
    with Workspace.open(case.workspace) as workspace:
        from expunge.farm.opened import open_data

        record, source = workspace.served(), open_data(workspace.named_data).train
        train = workspace.data.train
        images, labels = train.images.copy(), train.labels.copy()
        images[case.y], labels[case.y] = source.images[source.slot_of[X]], source.labels[source.slot_of[X]]
        job = workspace.fit_job(run, absent=frozenset(record.absent), seed=record.seed)
        data = replace(workspace.data, train=replace(train, images=images, labels=labels))
        assert case.x in record.absent
        return str(workspace.adapter.fit(replace(job, data=data, leaves=None)).digest)


def test_honest_control_co_signs(case: Case, second: str, tmp_path: Path) -> None:
    result = attempt(tmp_path, second, case.bundle, case.package)
    assert result.model == parse_statement(payload_of(read_bundle(case.bundle).json("certificate.json"))).model


def test_r1_a_model_that_contains_the_record_under_another_id_is_not_co_signed(
    case: Case, second: str, tmp_path: Path
) -> None:
    forged = trained_on_x_under_the_name_of_y(case, tmp_path / "run")
    bundle = case.certify(tmp_path / "forged.zip", model=forged)
    ids = list(case.package["ids"])
    ids[case.y] = X  # B looks up X's true pixels for the slot of Y, and would get the very model
    refused(tmp_path, second, bundle, {**case.package, "ids": ids}, "data \\(root\\)")
    refused(tmp_path, second, bundle, case.package, "recomputation gave another model")


def test_r1_control_without_the_check_of_roots_the_attack_would_be_co_signed(
    case: Case, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = trained_on_x_under_the_name_of_y(case, tmp_path / "run")
    bundle = case.certify(tmp_path / "forged.zip", model=forged)
    ids = list(case.package["ids"])
    ids[case.y] = X
    after = parse_statement(payload_of(read_bundle(bundle).json("certificate.json"))).predicate.data_after
    monkeypatch.setattr("expunge.workflow.recompute._data_ref", lambda package, records: after)
    assert attempt(tmp_path, second, bundle, {**case.package, "ids": ids}).model == forged


def test_r1_another_data_key_makes_no_other_records_fit(case: Case, second: str, tmp_path: Path) -> None:
    refused(tmp_path, second, case.bundle, {**case.package, "key": "00" * 32}, "data \\(root\\)")
    for key in ("", "zz" * 32, "00" * 31):
        refused(tmp_path, second, case.bundle, {**case.package, "key": key}, "key")


def test_r1_tombstones_are_exactly_the_slots_without_an_id(case: Case, second: str, tmp_path: Path) -> None:
    ids, absent = case.package["ids"], case.package["absent"]
    assert [slot for slot, name in enumerate(ids) if name is None] == absent == [case.x]
    named = [X if slot == case.x else name for slot, name in enumerate(ids)]
    blank = [None if slot == case.y else name for slot, name in enumerate(ids)]
    for change in (
        {"ids": named},
        {"ids": blank},
        {"absent": []},
        {"absent": [case.x, case.y]},
        {"absent": [case.x, case.x]},
        {"absent": [case.x, len(ids)]},
        {"blocks": case.package["blocks"][:-1]},
    ):
        refused(tmp_path, second, case.bundle, {**case.package, **change}, "tombstones")


def test_r1_other_records_than_the_certificates_are_refused(case: Case, second: str, tmp_path: Path) -> None:
    ids, blocks = case.package["ids"], case.package["blocks"]
    named = [X if slot == case.x else name for slot, name in enumerate(ids)]
    refused(tmp_path, second, case.bundle, {**case.package, "ids": named, "absent": []}, "present")
    blank = [None if slot == case.y else name for slot, name in enumerate(ids)]
    both = {**case.package, "ids": blank, "absent": sorted([case.x, case.y])}
    refused(tmp_path, second, case.bundle, both, "present")
    shorter = {**case.package, "ids": ids[:-1], "blocks": blocks[:-1]}
    refused(tmp_path, second, case.bundle, shorter, "slots")
    twice = [ids[case.y] if slot == case.y + 1 else name for slot, name in enumerate(ids)]
    refused(tmp_path, second, case.bundle, {**case.package, "ids": twice}, "comes twice")
    refused(tmp_path, second, case.bundle, {**case.package, "source": "cifar10"}, "data source")


def test_changed_pixels_on_the_second_holders_side_are_found_before_training(
    case: Case, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from expunge.farm.opened import open_data

    def changed(named: Any, items: Any = None) -> Any:
        data = open_data(named, items)
        images = data.train.images.copy()
        images[data.train.slot_of[case.package["ids"][case.y]]] ^= 1
        return replace(data, train=replace(data.train, images=images))

    monkeypatch.setattr("expunge.workflow.recompute.open_data", changed)
    refused(tmp_path, second, case.bundle, case.package, "data \\(content_root\\)")


def test_recipe_and_numerics_are_those_of_the_plan(case: Case, second: str, tmp_path: Path) -> None:
    recipe = {**case.package["recipe"], "epochs": 1}
    refused(tmp_path, second, case.bundle, {**case.package, "recipe": recipe}, "recipe")
    numerics = {**case.package["numerics"], "threads": 7}
    refused(tmp_path, second, case.bundle, {**case.package, "numerics": numerics}, "numerics")
    planned = case.certify(tmp_path / "planned.zip", recipe="sha256:" + "0" * 64)
    refused(tmp_path, second, planned, case.package, "recipe")


def test_plan_of_the_bundle_is_the_one_the_statement_names(case: Case, second: str, tmp_path: Path) -> None:
    files = dict(read_bundle(case.bundle).files)
    plan = decode(Plan, loads(files["plan.json"]))
    files["plan.json"] = canonical(encode(replace(plan, seed="another")))
    (tmp_path / "swapped.zip").write_bytes(zip_bytes(files))
    refused(tmp_path, second, tmp_path / "swapped.zip", case.package, "plan.json")


def test_another_seed_is_another_model(case: Case, second: str, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="recomputation gave another model"):
        attempt(tmp_path, second, case.bundle, {**case.package, "seed": "0" * 32})


@pytest.mark.parametrize("field", ["key", "ids", "absent", "recipe", "numerics", "seed"])
def test_a_package_without_a_field_is_refused_in_our_words(case: Case, second: str, tmp_path: Path, field: str) -> None:
    package = {name: value for name, value in case.package.items() if name != field}
    refused(tmp_path, second, case.bundle, package, field)


def test_package_is_private_and_its_key_is_the_data_key(case: Case) -> None:
    file = case.bundle.parent / "recompute.json"
    assert file.stat().st_mode & 0o077 == 0
    assert bytes.fromhex(case.package["key"]) == (case.workspace / "keys" / "data.key").read_bytes()
    assert case.package["key"].encode() not in b"".join(read_bundle(case.bundle).files.values())
