"""One scoring function of each other tool, loaded from a clone at a fixed commit with the imports it does not use stubbed.

Nothing of theirs is copied: the file's text is read from the clone with `git show` and executed in a child process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

CLONES = {
    "privacy-meter": ("ml_privacy_meter", "e384af8fd9319b8eeb1303aa82474df1441e3c59"),
    "LeakPro": ("LeakPro", "c47752fad0fb48cba7d4d03023cdcedf267501c4"),
    "TF-Privacy": ("privacy", "03035d5d4a271ac795dab80f5bc1cef82fc3d462"),
}
Arrays = dict[str, np.ndarray]
Work = Callable[[], np.ndarray]


class Unavailable(Exception):
    """Why a peer cannot be run here."""


def load(peers: Path, tool: str, path: str, stubs: tuple[str, ...] = ()) -> dict[str, Any]:
    """The namespace of one file of a tool. `stubs` are modules it imports and the function does not need."""
    folder, commit = CLONES[tool]
    if not (peers / folder).exists():
        raise Unavailable(f"no clone of {folder} in --peers")
    shown = subprocess.run(
        ["git", "-C", str(peers / folder), "show", f"{commit}:{path}"], capture_output=True, text=True, check=False
    )
    if shown.returncode:
        raise Unavailable(f"{folder} has no {path} at {commit[:7]}")
    for name in stubs:
        sys.modules[name] = MagicMock()
    space: dict[str, Any] = {"__name__": f"peer_{tool}"}
    try:
        exec(compile(shown.stdout, path, "exec"), space)
    except Exception as error:
        raise Unavailable(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return space


def privacy_meter(peers: Path, arrays: Arrays, *, unbiased: bool) -> Work:
    """`run_rmia` with a = 1. Unbiased: every reference answers on z with the mean over references, so that the mean over
    their largest half, which the function takes, is that mean."""
    run = load(peers, "privacy-meter", "modules/mia/attacks/rmia.py")["run_rmia"]
    p = {name: np.exp(arrays[name].astype(np.float64)).T for name in arrays if arrays[name].dtype != bool}
    z = p["reference_population"]
    if unbiased:
        z = np.repeat(z.mean(axis=1, keepdims=True), z.shape[1], axis=1)
    member = np.ascontiguousarray(arrays["member"].T)
    return lambda: run(p["target"], p["reference"], member, p["target_population"], z, 1.0)


def leakpro_rmia(peers: Path, arrays: Arrays) -> Work:
    """`_run_attack` offline with gamma 1 and a = 1, from the logits; p(z) is given."""
    stubs = (
        "leakpro.attacks.mia_attacks.abstract_mia", "leakpro.attacks.utils.shadow_model_handler",
        "leakpro.attacks.utils.utils", "leakpro.input_handler.mia_handler", "leakpro.reporting.mia_result",
        "leakpro.signals.signal", "leakpro.signals.signal_extractor", "leakpro.utils.import_helper",
        "leakpro.utils.logger",
    )  # fmt: skip
    space = _leakpro(peers, "leakpro/attacks/mia_attacks/rmia.py", stubs)
    space["softmax_logits"] = _softmax
    attack = object.__new__(space["AttackRMIA"])
    records = arrays["member"].shape[1]
    p_z = np.exp(arrays["reference_population"]).mean(axis=0)
    attack.online, attack.gamma, attack.offline_a, attack.epsilon, attack.temperature = False, 1.0, 1.0, 0.0, 1.0
    attack.ground_truth_indices = np.zeros(records, int)
    attack.logits_theta, attack.logits_shadow_models = arrays["logits"][-1], list(arrays["logits"][:-1])
    attack.out_indices, attack.ratio_z = ~arrays["member"], np.exp(arrays["target_population"]) / p_z
    attack.audit_dataset = {"in_members": np.arange(records), "out_members": np.arange(0)}

    def work() -> np.ndarray:
        attack._run_attack()
        return attack.in_member_signals.ravel()

    return work


def leakpro_lira(peers: Path, arrays: Arrays) -> Work:
    """`run_attack` online with its fixed variance, from logit-scaled confidences."""
    stubs = (
        "tqdm", "leakpro.attacks.mia_attacks.abstract_mia", "leakpro.attacks.utils.shadow_model_handler",
        "leakpro.input_handler.mia_handler", "leakpro.reporting.mia_result", "leakpro.utils.import_helper",
    )  # fmt: skip
    space = _leakpro(peers, "leakpro/attacks/mia_attacks/lira.py", stubs)
    space["tqdm"] = lambda values, **_: values
    attack = object.__new__(space["AttackLiRA"])
    records = arrays["member"].shape[1]
    attack.online, attack.var_calculation, attack.fix_var_threshold = True, "carlini", 32
    attack.num_shadow_models = len(arrays["member"])
    attack.shadow_models_logits, attack.target_logits = _phi(arrays["reference"]), _phi(arrays["target"])[0]
    attack.out_indices, attack.configs = ~arrays["member"], MagicMock()
    attack.audit_dataset = {"in_members": np.arange(records), "out_members": np.arange(0)}

    def work() -> np.ndarray:
        attack.run_attack()
        return attack.in_member_signals.ravel()

    return work


def tf_privacy_lira(peers: Path, arrays: Arrays) -> Work:
    """`compute_score_lira` with its fixed variance and means, from logit-scaled confidences; they score members low."""
    path = "tensorflow_privacy/privacy/privacy_tests/membership_inference_attack/advanced_mia.py"
    parents = ("tensorflow_privacy", "tensorflow_privacy.privacy", "tensorflow_privacy.privacy.privacy_tests")
    space = load(peers, "TF-Privacy", path, (*parents, f"{parents[-1]}.utils"))
    phi, member = _phi(arrays["reference"]), arrays["member"]
    inside = [phi[member[:, r], r, None] for r in range(member.shape[1])]
    outside = [phi[~member[:, r], r, None] for r in range(member.shape[1])]
    target = _phi(arrays["target"]).T
    score = space["compute_score_lira"]
    return lambda: -score(target, inside, outside, fix_variance=True, median_or_mean="mean")


def google_lira(peers: Path, arrays: Arrays) -> Work:
    """`generate_ours` of mi_lira_2021 with its fixed variance (and its medians); it scores members low."""
    space = load(peers, "TF-Privacy", "research/mi_lira_2021/plot.py", ("matplotlib", "matplotlib.pyplot"))
    phi, answers = _phi(arrays["reference"])[:, :, None], [arrays["trained"]]
    target = _phi(arrays["target"])[:, :, None]
    work = space["generate_ours"]
    return lambda: -np.asarray(work(arrays["member"], phi, answers, target, fix_variance=True)[0])


def _leakpro(peers: Path, path: str, stubs: tuple[str, ...]) -> dict[str, Any]:
    parents = ("leakpro", "leakpro.attacks", "leakpro.attacks.mia_attacks", "leakpro.attacks.utils",
               "leakpro.input_handler", "leakpro.reporting", "leakpro.signals", "leakpro.utils")  # fmt: skip
    for name in (*parents, *stubs):
        sys.modules.setdefault(name, MagicMock())
    sys.modules["leakpro.attacks.mia_attacks.abstract_mia"].AbstractMIA = object
    sys.modules["leakpro.utils.import_helper"].Self = Any
    return load(peers, "LeakPro", path)


def _phi(log_p: np.ndarray) -> np.ndarray:
    clipped = np.clip(log_p.astype(np.float64), -50, -1e-6)
    return clipped - np.log(-np.expm1(clipped))


def _softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    raised = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return raised / raised.sum(axis=1, keepdims=True)
