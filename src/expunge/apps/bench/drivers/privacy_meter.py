"""privacy-meter: the "Best One Run" DP audit of audit.py, version 2, which exists as a git checkout only (`source`).

The file is loaded alone; what it imports beside numpy and scipy (torch, plots, the attacks) is replaced by stand-ins,
because the audit function uses none of it.
"""
# mypy: ignore-errors


def version(source):
    """Of the installed release, beside the checkout."""
    from importlib import metadata
    from pathlib import Path

    try:
        installed = metadata.version("privacy-meter")
    except metadata.PackageNotFoundError:
        installed = "none"
    return f"checkout {Path(source).name} (PyPI {installed} has no such audit)" if source else installed


def methods(source):
    """compute_abstain_attack_results at its defaults: delta 0, p-value .05."""
    import importlib.util
    import sys
    import types
    from pathlib import Path

    if not source:
        raise ImportError("the PyPI release has no DP audit; give a checkout of version 2 with --source")

    class StandIn(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return StandIn(name)

    import scipy.stats  # noqa: F401 - audit.py says `import scipy` and uses scipy.stats

    absent = ("torch", "torch.utils", "torch.utils.data", "attacks", "visualize")
    absent += ("modules", "modules.ramia", "modules.ramia.ramia_scores")
    sys.modules.update({name: StandIn(name) for name in absent})
    spec = importlib.util.spec_from_file_location("pm_audit", Path(source) / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in absent:
        del sys.modules[name]  # scipy asks a loaded torch what its tensors are

    def best(scores, coins, seed):
        return module.compute_abstain_attack_results(scores, coins)["eps_opt"] > 0

    return {"Best One Run": best}
