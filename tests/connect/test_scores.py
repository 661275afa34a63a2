"""Readers of other tools' arrays: what each tool writes is read as it means it, and hostile files are refused unread."""

from __future__ import annotations

import io
import json
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from expunge.connect.scores import ModelSignals, PooledScores, ScoreReader, read_arms
from expunge.connect.scores import _arrays as arrays
from expunge.core import registry
from expunge.core.errors import InputProblems

RNG = np.random.default_rng(0)
MEMBERS, OTHERS = RNG.normal(0.5, 1, 40), RNG.normal(0, 1, 30)


def reader(name):
    return registry.load("scores", name)()


def saved(path, **named):
    np.savez(path, **named)
    return path


def bank(models=8, records=50):
    """(M, N) probabilities and membership in complement pairs, float32 as the tools store it."""
    member = np.zeros((models, records), bool)
    for k in range(0, models, 2):
        member[k, RNG.permutation(records)[: records // 2]] = True
        member[k + 1] = ~member[k]
    return RNG.uniform(0.01, 0.99, (models, records)).astype(np.float32), member


def privacy_meter_folder(folder, probability, member, population=None):
    (folder / "signals").mkdir(parents=True)
    np.save(folder / "memberships.npy", member)
    np.save(folder / "signals" / "rmia_signals.npy", probability.T)
    if population is not None:
        np.save(folder / "signals" / "rmia_signals_pop.npy", population.T)
    return folder


def mi_lira_folder(folder, phi, member, *, arch=None):
    """As score.py writes: (N, augmentations) an epoch; the mask covers the whole data set."""
    for k, (scores, keep) in enumerate(zip(phi, member, strict=True)):
        experiment = folder / f"experiment_{k:03d}_of_{len(phi)}"
        (experiment / "scores").mkdir(parents=True)
        np.save(experiment / "scores" / "0000000099.npy", scores + 9)
        np.save(experiment / "scores" / "0000000100.npy", scores)
        np.save(experiment / "keep.npy", np.concatenate([keep, [True] * 5]))
        (experiment / "hparams.json").write_text(json.dumps({"arch": arch[k] if arch else "wrn28-2"}))
    return folder


def leakpro_file(path, **changes):
    result = {
        "result_name": "rmia",
        "result_type": "MIAResult",
        "id": "rmia-1",
        "tpr": None,
        "signal_values": [*MEMBERS, *OTHERS],
        "true_labels": [1] * 40 + [0] * 30,
        "config": {},
    }
    path.write_text(json.dumps(result | changes))
    return path


# ------------------------------------------------------------------------------------------------ each tool's layout


@pytest.mark.parametrize("name", registry.names("scores"))
def test_every_reader_meets_the_protocol_and_names_its_layout(name):
    assert isinstance(reader(name), ScoreReader)
    assert reader(name).layout


def test_no_reader_takes_what_another_one_takes(tmp_path):
    probability, member = bank()
    runs = {
        "plain": saved(tmp_path / "a.npz", members=MEMBERS, nonmembers=OTHERS),
        "jax_privacy": saved(tmp_path / "b.npz", in_canary_scores=MEMBERS, out_canary_scores=OTHERS),
        "tf_privacy": saved(tmp_path / "c.npz", loss_train=MEMBERS, loss_test=OTHERS),
        "leakpro": leakpro_file(tmp_path / "d.json"),
        "privacy_meter": privacy_meter_folder(tmp_path / "pm", probability, member),
        "mi_lira": mi_lira_folder(tmp_path / "exp", RNG.normal(0, 1, (4, 20, 2)), member[:4, :20]),
    }
    for owner, path in runs.items():
        taking = [name for name in registry.names("scores") if reader(name).recognises((path,))]
        assert taking == [owner]


def test_plain_reads_both_kinds(tmp_path):
    found = reader("plain").read((saved(tmp_path / "a.npz", members=MEMBERS, nonmembers=OTHERS),))
    assert isinstance(found, PooledScores)
    assert np.array_equal(found.members, MEMBERS)
    probability, member = bank()
    path = saved(tmp_path / "b.npz", log_probabilities=np.log(probability), member=member)
    signals = reader("plain").read((path,))
    assert isinstance(signals, ModelSignals)
    assert signals.population is None
    assert np.array_equal(signals.member, member)


def test_privacy_meter_signals_are_turned_to_models_by_records(tmp_path):
    probability, member = bank()
    population = RNG.uniform(0.1, 0.9, (8, 30))
    found = reader("privacy_meter").read((privacy_meter_folder(tmp_path / "pm", probability, member, population),))
    assert np.allclose(found.log_p, np.log(probability), atol=1e-6)
    assert np.allclose(found.population, np.log(population))
    assert np.array_equal(found.member, member)


def test_privacy_meter_result_and_a_sample_that_cannot_be_joined(tmp_path):
    labels = np.arange(70) % 3 == 0
    path = saved(tmp_path / "attack_result_0.npz", scores=np.arange(70.0), memberships=labels, fpr=np.zeros(3))
    assert np.array_equal(reader("privacy_meter").read((path,)).members, np.arange(70.0)[labels])
    probability, member = bank()
    folder = privacy_meter_folder(tmp_path / "pm", probability[:, :40], member)
    with pytest.raises(InputProblems, match="40 of 50 records and does not say which"):
        reader("privacy_meter").read((folder,))


def test_privacy_meter_pickled_models_are_never_touched(tmp_path):
    probability, member = bank()
    folder = privacy_meter_folder(tmp_path / "pm", probability, member)
    (folder / "model_0.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert reader("privacy_meter").read((folder,)).log_p.shape == (8, 50)


def test_mi_lira_takes_the_last_epoch_the_mean_augmentation_and_the_cut_mask(tmp_path):
    phi, member = RNG.normal(0, 2, (6, 20, 3)), RNG.random((6, 20)) < 0.5
    found = reader("mi_lira").read((mi_lira_folder(tmp_path / "exp", phi, member),))
    assert np.allclose(np.exp(found.log_p), 1 / (1 + np.exp(-phi.mean(axis=2))))
    assert np.array_equal(found.member, member)


def test_mi_lira_mixed_model_families_are_refused(tmp_path):
    folder = mi_lira_folder(tmp_path / "exp", RNG.normal(0, 2, (2, 20, 1)), np.eye(2, 20, dtype=bool), arch="ab")
    with pytest.raises(InputProblems, match="different families: a, b"):
        reader("mi_lira").read((folder,))


def test_leakpro_splits_signals_by_label_and_says_when_there_are_none(tmp_path):
    found = reader("leakpro").read((leakpro_file(tmp_path / "a.json"),))
    assert np.allclose(found.members, MEMBERS)
    assert np.allclose(found.nonmembers, OTHERS)
    with pytest.raises(InputProblems, match="made from counts"):
        reader("leakpro").read((leakpro_file(tmp_path / "b.json", signal_values=None),))


def test_tf_privacy_losses_are_negated_and_logits_give_the_same(tmp_path):
    logits, labels = RNG.normal(0, 2, (25, 4)), RNG.integers(0, 4, 25)
    log_p = np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[np.arange(25), labels]
    fields = {"labels_train": labels, "labels_test": labels[:20]}
    by_logits = saved(tmp_path / "a.npz", logits_train=logits, logits_test=logits[:20] * 2, **fields)
    by_loss = saved(tmp_path / "b.npz", loss_train=-log_p, loss_test=-log_p[:20] * 2)
    assert np.allclose(reader("tf_privacy").read((by_logits,)).members, log_p)
    assert np.allclose(reader("tf_privacy").read((by_loss,)).members, log_p)


def test_tf_privacy_multi_hot_labels_and_probabilities_above_one_are_refused_together(tmp_path):
    table = RNG.dirichlet(np.ones(4), 25)
    path = saved(
        tmp_path / "a.npz", probs_train=table * 3, probs_test=table, labels_train=table > 0.5, labels_test=table
    )
    with pytest.raises(InputProblems) as caught:
        reader("tf_privacy").read((path,))
    assert len(caught.value.problems) == 3


def test_jax_privacy_two_files_or_one(tmp_path):
    np.save(tmp_path / "in_canary_scores.npy", MEMBERS)
    np.save(tmp_path / "out_canary_scores.npy", OTHERS)
    both = (tmp_path / "out_canary_scores.npy", tmp_path / "in_canary_scores.npy")
    assert reader("jax_privacy").recognises(both)
    assert np.array_equal(reader("jax_privacy").read(both).members, MEMBERS)


# ------------------------------------------------------------------------------------------------------ hostile files


class Bomb:
    """Unpickling this would be noticed."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_attack_pickled_objects_in_an_array_are_not_loaded(tmp_path):
    path = saved(tmp_path / "a.npz", members=np.array([Bomb()], dtype=object), nonmembers=OTHERS)
    with pytest.raises(InputProblems, match="never unpickled"):
        reader("plain").read((path,))


def header(shape, descr="<f8"):
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header((2**40,)), "at most"),
        (header((2**20,)) + b"\0" * 64, "64 bytes follow"),
        (header((-3, -3)), "dimensions|malformed|bytes follow"),
        (header((2,), "<c16") + b"\0" * 32, "dtype"),
        (header((2,), [("a", "<f8")]) + b"\0" * 16, "dtype"),
        (header((2,), "|O") + b"\0" * 16, "never unpickled"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31), "header of"),
        (b"\x93NUMPY\x03\x00" + b"\0" * 40, "malformed"),
        (b"\x93NUMPY\x09\x00" + b"\0" * 40, "not an npy"),
        (b"\x93NUM", "not an npy"),
        (header((3,))[:-30], "header|malformed|bytes follow|Expected|Header|EOF"),
    ],
)
def test_attack_lying_headers_are_refused_before_memory_is_taken(tmp_path, content, said, monkeypatch):
    monkeypatch.setattr(np, "frombuffer", lambda *a, **k: pytest.fail("memory was taken"))
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    intake = arrays.Intake("t")
    assert intake.npy(path) is None
    with pytest.raises(InputProblems, match=said):
        intake.done()


def test_attack_zip_bomb_is_refused_by_its_unpacked_size(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_VALUES", 1000)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, members=np.zeros(100_000), nonmembers=np.zeros(10))
    assert path.stat().st_size < 3000
    with pytest.raises(InputProblems, match="when unpacked"):
        reader("plain").read((path,))


def test_attack_two_arrays_of_one_name(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, MEMBERS)
    path = tmp_path / "twice.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("members.npy", buffer.getvalue())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("members.npy", buffer.getvalue())
    with pytest.raises(InputProblems, match="comes twice"):
        reader("plain").read((path,))


def test_attack_a_pipe_does_not_hang_the_reader(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(InputProblems, match="not a regular file"):
        reader("plain").read((tmp_path / "pipe.npz",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"result_type": "MIAResult", "signal_values": [NaN], "true_labels": [1]}', "NaN"),
        ('{"result_type": "MIAResult", "true_labels": [1], "true_labels": [0]}', "comes twice"),
        ("[" * 100_000, "recursion|depth|nested|Expecting"),
        ("[1, 2]", "JSON object expected"),
        ('{"result_type": "MIAResult", "signal_values": [1, [2]], "true_labels": [1, 0]}', "not an array of numbers"),
        ('{"result_type": "MIAResult", "signal_values": [1e999, 2], "true_labels": [1, 0]}', "NaN or infinity"),
        ('{"result_type": "MIAResult", "signal_values": [1, 2], "true_labels": [1, 3]}', "mask"),
        ('{"result_type": "MIAResult", "signal_values": [1, 2], "true_labels": [1, 1]}', "one side"),
        ('{"result_type": "MinvResult", "signal_values": [1, 2], "true_labels": [1, 0]}', "MIAResult expected"),
        (
            '{"result_type": "MIAResult", "signal_values": [' + "9" * 6000 + '], "true_labels": [1]}',
            "digits|numbers|limit",
        ),
    ],
)
def test_attack_json_that_is_not_what_it_says(tmp_path, text, said):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputProblems, match=f"(?i){said}"):
        reader("leakpro").read((path,))


def test_nan_duplicates_constants_and_shapes_are_reported_together(tmp_path):
    bad = MEMBERS.copy()
    bad[3] = np.nan
    with pytest.raises(InputProblems) as caught:
        reader("plain").read((saved(tmp_path / "a.npz", members=bad, nonmembers=OTHERS[:, None]),))
    assert len(caught.value.problems) == 2
    with pytest.raises(InputProblems, match="same array"):
        reader("plain").read((saved(tmp_path / "b.npz", members=MEMBERS, nonmembers=MEMBERS),))
    with pytest.raises(InputProblems, match="all 12 values are the same"):
        reader("plain").read((saved(tmp_path / "c.npz", members=np.ones(5), nonmembers=np.ones(7)),))


def test_a_bank_with_a_model_twice_unpaired_masks_or_logits_is_refused(tmp_path):
    probability, member = bank()
    log_p = np.log(probability)
    twice = log_p.copy()
    twice[5] = twice[2]
    with pytest.raises(InputProblems, match="model 5 is a copy of model 2"):
        reader("plain").read((saved(tmp_path / "a.npz", log_probabilities=twice, member=member),))
    with pytest.raises(InputProblems) as caught:
        reader("plain").read((saved(tmp_path / "b.npz", log_probabilities=log_p + 9, member=member[:6]),))
    assert len(caught.value.problems) == 2


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400))
def test_fuzz_no_bytes_get_past_the_reader_as_anything_but_a_typed_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("f") / "x.npz"
    path.write_bytes(data)
    for name in registry.names("scores"):
        assert not reader(name).recognises((path,))
        with pytest.raises(InputProblems):
            reader(name).read((path,))


@settings(max_examples=60, deadline=None)
@example(position=8, value=1)  # numpy's own header parser lets a tokenizer error out here
@given(position=st.integers(0, 127), value=st.integers(0, 255))
def test_fuzz_a_changed_header_byte_is_refused_or_still_the_array(tmp_path_factory, position, value):
    stream = io.BytesIO()
    np.save(stream, MEMBERS)
    data = bytearray(stream.getvalue())
    data[position] = value
    path = tmp_path_factory.mktemp("f") / "x.npy"
    path.write_bytes(data)
    found = arrays.Intake("t").npy(path)
    assert found is None or found.nbytes == MEMBERS.nbytes


# ---------------------------------------------------------------------------------------------------------- the arms


def arm_files(folder, **arms):
    paths = {}
    for name, signals in arms.items():
        paths[name] = saved(folder / f"{name}.npz", **signals)
    return paths


def test_arms_are_means_over_the_block_row_by_row(tmp_path):
    out, into = RNG.normal(0, 1, (12, 4)), RNG.normal(3, 1, (12, 4))
    paths = arm_files(tmp_path, out={"a": out}, into={"a": into})
    found = read_arms(paths["out"], paths["into"], None)
    assert found.unlearned is None
    assert np.allclose(found.out["a"], out.mean(axis=1))


def test_attack_copied_arms_and_copied_signals(tmp_path):
    out, into = RNG.normal(0, 1, 12), RNG.normal(3, 1, 12)
    two = {"a": out, "b": out}
    paths = arm_files(tmp_path, out=two, into={"a": into, "b": into + 1}, unlearned=two)
    with pytest.raises(InputProblems) as caught:
        read_arms(paths["out"], paths["into"], paths["unlearned"])
    said = "; ".join(caught.value.problems)
    assert "unlearned is a copy of out" in said
    assert "signal b is a copy of signal a" in said


def test_unpaired_arms_and_other_signals(tmp_path):
    paths = arm_files(tmp_path, out={"a": MEMBERS[:12]}, into={"a": MEMBERS[:11]}, other={"b": MEMBERS[:12]})
    with pytest.raises(InputProblems, match="not paired"):
        read_arms(paths["out"], paths["into"], None)
    with pytest.raises(InputProblems, match="different signals"):
        read_arms(paths["out"], paths["other"], None)
