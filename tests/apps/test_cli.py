"""The command line as a user meets it: verbs, exit codes, JSON on stdout, errors on stderr."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workspaces import change_policy

DIGIT = "train/7/0007"


def expunge(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "expunge.apps.cli.main", *arguments]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def test_the_verbs_in_order_with_json(folder: Path, tmp_path: Path) -> None:
    case = json.loads(expunge("request", "-w", str(folder), "--id", DIGIT, "--json").stdout)
    plan = json.loads(expunge("plan", "-w", str(folder), "--json").stdout)
    assert [item["method"] for item in plan["candidates"] if not item["refused"]] == ["replay", "finetune", "retrain"]
    done = expunge("run", "-w", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)["outcome"]
    assert (outcome["case"], outcome["guarantee"]) == (case["case"], "EXACT")
    bundle, receipt = outcome["certificate"]["path"], case["receipt"]
    trust = ["--trust", str(folder / "roots.json"), "--policy", str(folder / "policy.yaml")]
    model = next((folder / "store" / "runs").glob(f"{case['case']}-replay-*")) / "model.safetensors"
    checked = expunge("verify", bundle, *trust, "--against", receipt, "--model", str(model), "--json")
    assert checked.returncode == 0, checked.stdout
    assert json.loads(checked.stdout)["verified"] is True
    assert expunge("log", "verify", "-w", str(folder), "--against", receipt).returncode == 0
    assert expunge("report", bundle, "--out", str(tmp_path / "r.html")).returncode == 0
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_tampered_bundle_exits_5(folder: Path, tmp_path: Path) -> None:
    expunge("request", "-w", str(folder), "--id", DIGIT)
    outcome = json.loads(expunge("run", "-w", str(folder), "--json").stdout)["outcome"]
    raw = bytearray(Path(outcome["certificate"]["path"]).read_bytes())
    place = raw.index(b'"verdict":"PASS"')
    raw[place + 11 : place + 15] = b"FAIL"
    (tmp_path / "bad.zip").write_bytes(bytes(raw))
    trust = ["--trust", str(folder / "roots.json"), "--policy", str(folder / "policy.yaml")]
    done = expunge("verify", str(tmp_path / "bad.zip"), *trust)
    assert done.returncode == 5
    assert "VERIFIED" in done.stdout
    assert "NOT VERIFIED" in done.stdout


def test_not_erased_exits_3_and_says_what_to_do(folder: Path) -> None:
    expunge("request", "-w", str(folder), "--block", "canary")
    done = expunge("run", "-w", str(folder), "--method", "finetune")
    assert done.returncode == 3
    assert "still in service" in done.stderr
    assert "residue" in done.stdout


def test_bad_input_exits_2_with_expected_and_got(folder: Path) -> None:
    done = expunge("request", "-w", str(folder), "--id", "nobody", "--json")
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"] == "not_present"
    assert done.stdout == ""
    assert expunge("run", "-w", str(folder / "nowhere")).returncode == 2
    assert expunge("frobnicate").returncode == 2
    assert expunge("init", "--pairs", "many").returncode == 2


def test_held_exits_4(folder: Path) -> None:
    change_policy(folder, "max_attempts: 4", "max_attempts: 1")
    for code in (3, 4):
        expunge("request", "-w", str(folder), "--block", "canary")
        assert expunge("run", "-w", str(folder), "--method", "finetune").returncode == code


def test_init_train_bank_from_nothing(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("{name: tiny, family: mlp, model: {width: 16}, epochs: 2, batch: 128, lr: 0.1, threads: 1}")
    ws = str(tmp_path / "ws")
    made = expunge("init", ws, "--recipe", str(recipe), "--pairs", "2", "--anchors", "0", "--option", "canaries=5")
    assert made.returncode == 0, made.stderr
    trained = json.loads(expunge("train", "-w", ws, "--json").stdout)
    assert trained["images_per_second"] > 0
    bank = json.loads(expunge("bank", "-w", ws, "--json").stdout)
    assert bank["n"] == 4


def test_adopt_shows_the_honest_menu(prepared: Path, tmp_path: Path) -> None:
    recipe = prepared / "recipe.yaml"
    ws = str(tmp_path / "ws")
    expunge("init", ws, "--recipe", str(recipe), "--pairs", "2", "--anchors", "0")
    weights = prepared / "store/runs/original/model.safetensors"
    menu = json.loads(expunge("adopt", str(weights), "-w", ws, "--json").stdout)["menu"]
    possible = {option["name"]: option["possible"] for option in menu}
    assert possible["retrain"] is True
    assert possible["replay"] is False
    expunge("request", "-w", ws, "--id", DIGIT)
    plan = json.loads(expunge("plan", "-w", ws, "--json").stdout)
    refused = {item["method"]: item["refused"] for item in plan["candidates"]}
    assert "no transcript" in refused["replay"]
    assert refused["retrain"] is None


def test_adopt_refuses_a_pickle(prepared: Path, tmp_path: Path) -> None:
    ws = str(tmp_path / "ws")
    expunge("init", ws, "--recipe", str(prepared / "recipe.yaml"), "--pairs", "2", "--anchors", "0")
    (tmp_path / "model.pt").write_bytes(b"\x80\x04\x95cposix\nsystem\n")
    done = expunge("adopt", str(tmp_path / "model.pt"), "-w", ws)
    assert done.returncode == 5
    assert "safetensors" in done.stderr


def test_help_names_every_verb() -> None:
    from expunge.apps.cli.main import ORDER

    listed = [
        line.split()[1] for line in expunge("--help").stdout.splitlines() if line.startswith("│ ") and line[2] != " "
    ]
    assert [name for name in listed if not name.startswith("-")] == list(ORDER)


def test_help_neither_imports_torch_nor_numpy() -> None:
    script = (
        "import sys; sys.argv = ['expunge', '--help']\n"
        "from expunge.apps.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "sys.exit(sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_verify_works_where_numpy_and_torch_cannot_be_imported(folder: Path) -> None:
    expunge("request", "-w", str(folder), "--id", DIGIT)
    outcome = json.loads(expunge("run", "-w", str(folder), "--json").stdout)["outcome"]
    script = (
        "import sys\n"
        "for name in ('numpy', 'torch', 'scipy', 'pyarrow', 'sklearn'): sys.modules[name] = None\n"
        f"sys.argv = ['expunge', 'verify', {outcome['certificate']['path']!r}, '--trust', {str(folder / 'roots.json')!r}, "
        f"'--policy', {str(folder / 'policy.yaml')!r}]\n"
        "from expunge.apps.cli.main import run; run()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_checkpoint_anchored_in_git_finds_a_rolled_back_log(folder: Path, tmp_path: Path) -> None:
    from expunge.connect.git import GitAnchor

    repository = tmp_path / "anchors"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    old = (folder / "log.db").read_bytes()
    expunge("request", "-w", str(folder), "--id", DIGIT)
    done = expunge("log", "checkpoint", "-w", str(folder), "--git", str(repository))
    assert done.returncode == 0, done.stderr
    anchored = tmp_path / "checkpoint.txt"
    anchored.write_text(str(GitAnchor(repository=repository).newest()))
    assert anchored.read_text() == done.stdout
    assert expunge("log", "verify", "-w", str(folder), "--against", str(anchored)).returncode == 0
    for name in ("log.db-wal", "log.db-shm"):
        (folder / name).unlink(missing_ok=True)
    (folder / "log.db").write_bytes(old)
    assert expunge("log", "verify", "-w", str(folder), "--against", str(anchored)).returncode == 5
