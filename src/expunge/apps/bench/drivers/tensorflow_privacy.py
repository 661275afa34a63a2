"""tensorflow-privacy: EpsilonLowerBound, all five ratio bounds, the best threshold (k = 1), as its docstring shows.

`source` is a checkout; without one the file of the installed package is looked for (release 0.9.0 has none). It is
loaded alone, because importing the package needs a TensorFlow that its own pins do not give.
"""
# mypy: ignore-errors


def _file(source):
    import importlib.util
    from pathlib import Path

    tail = Path("privacy") / "privacy_tests" / "epsilon_lower_bound.py"
    if source:
        return Path(source) / "tensorflow_privacy" / tail
    spec = importlib.util.find_spec("tensorflow_privacy")
    if spec is None:
        raise ImportError("tensorflow_privacy is not installed and no checkout was given")
    return Path(spec.submodule_search_locations[0]) / tail


def version(source):
    """Of the distribution, and whether it imports."""
    from importlib import metadata
    from pathlib import Path

    try:
        import tensorflow_privacy  # noqa: F401

        state = ""
    except Exception as error:  # noqa: BLE001 - said in the version
        state = f"; the package's import fails: {type(error).__name__}"
    installed = f"PyPI {metadata.version('tensorflow-privacy')}{state}"
    return f"checkout {Path(source).name}, one file ({installed})" if source else installed


def methods(source):
    """One bound a method."""
    import importlib.util
    import sys

    import numpy as np

    spec = importlib.util.spec_from_file_location("epsilon_lower_bound", _file(source))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)

    def bound(kind):
        def flagged(scores, coins, seed):
            with np.errstate(all="ignore"):
                lower = module.EpsilonLowerBound(scores[coins], scores[~coins], alpha=0.05)
                found = lower.compute_epsilon_lower_bound(kind, k=1)
            return found.size > 0 and found[0] > 0

        return flagged

    return {f"EpsilonLowerBound {kind.value}, k = 1": bound(kind) for kind in module.BoundMethod}
