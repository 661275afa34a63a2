"""Imports go down the floors only. The contracts hold, and they would notice if they did not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"
FORBIDDEN = {
    # file: (an import it must not have, the contract that has to say so)
    "stats/roc.py": ("import expunge.workflow.planner", "Imports go down the floors only"),
    "methods/retrain.py": ("import expunge.methods.replay", "Methods do not know each other"),
    "checks/utility.py": ("import expunge.checks.membership", "Checks do not know each other"),
    "attacks/rmia.py": ("import expunge.attacks.lira", "Attacks do not know each other"),
    "models/mlp.py": ("import expunge.models.resnet", "Model families do not know each other"),
    "models/recommenders/ease.py": (
        "import expunge.models.recommenders.ridge",
        "Recommenders do not know each other",
    ),
    "models/generators/another.py": (
        "import expunge.models.generators.unet",
        "Text-to-image families do not know each other",
    ),
    "methods/erasers/uce.py": ("import expunge.methods.erasers.rece", "Erasers do not know each other"),
    "judges/adain.py": ("import expunge.judges.cnn", "Judges do not know each other"),
    "probes/direct.py": ("import expunge.probes.described", "Probes do not know each other"),
    "connect/places/lists.py": ("import expunge.connect.places.text", "Kinds of artefacts do not know each other"),
    "testing/world.py": ("import expunge.models.mlp", "Workflow and apps meet plug-ins by name only"),
    "core/codec.py": ("import numpy", "A certificate can be checked anywhere"),
}


def lint(folder, source):
    done = subprocess.run(
        [sys.executable, "-c", COMMAND],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(source), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_house_keeps_its_import_contracts():
    code, text = lint(ROOT, ROOT / "src")
    assert code == 0, text
    assert " 0 broken" in text


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A copy of the house with one forbidden import for every contract."""
    folder = tmp_path_factory.mktemp("spoilt")
    shutil.copytree(ROOT / "src" / "expunge", folder / "src" / "expunge", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / ".importlinter", folder / ".importlinter")
    for name, (line, _) in FORBIDDEN.items():
        file = folder / "src" / "expunge" / name
        file.write_text((file.read_text() if file.exists() else '"""New."""\n') + f"\n{line}  # forbidden\n")
    return lint(folder, folder / "src")


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_forbidden_import_breaks_its_contract(spoilt, name):
    code, text = spoilt
    assert code != 0
    assert f"{FORBIDDEN[name][1]} BROKEN" in text


def test_every_contract_of_the_house_has_a_negative_control(spoilt):
    assert " KEPT" not in spoilt[1], "a contract was added: give it a forbidden import above"
