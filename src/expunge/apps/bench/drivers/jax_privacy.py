"""jax_privacy: CanaryScoreAuditor of the installed package, delta 1e-5 where it must be above 0.

With a checkout as `source` its Gaussian bound is measured too: release 2.0.0 takes an absolute value of mu there, which
the repository has since corrected.
"""
# mypy: ignore-errors


def version(source):
    """Of the distribution."""
    from importlib import metadata
    from pathlib import Path

    return metadata.version("jax-privacy") + (f" and checkout {Path(source).name}" if source else "")


def _checkout(source):
    import importlib.util
    import sys
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("checkout_auditing", Path(source) / "jax_privacy" / "auditing.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def methods(source):
    """All bounds that the class offers with a significance level."""
    from jax_privacy import auditing as a

    def auditor(scores, coins):
        return a.CanaryScoreAuditor(scores[coins], scores[~coins])

    def clopper_pearson(strategy):
        return lambda s, c, seed: auditor(s, c).epsilon_clopper_pearson(0.05, threshold_strategy=strategy(seed)) > 0

    def one_run(strategy):
        return lambda s, c, seed: auditor(s, c).epsilon_one_run(0.05, 1e-5, threshold_strategy=strategy(seed)) > 0

    newest = _checkout(source) if source else None

    def newer(scores, coins, _):
        return newest.CanaryScoreAuditor(scores[coins], scores[~coins]).epsilon_from_gdp(0.05, 1e-5) > 0

    return {
        "Clopper-Pearson, Bonferroni (default)": clopper_pearson(lambda _: a.Bonferroni()),
        "Clopper-Pearson, Split": clopper_pearson(lambda seed: a.Split(seed=seed)),
        "Clopper-Pearson, MultiSplit": clopper_pearson(lambda seed: a.MultiSplit(seed=seed)),
        "one run, Bonferroni (default)": one_run(lambda _: a.Bonferroni()),
        "one run, Split": one_run(lambda seed: a.Split(seed=seed)),
        "one run f-DP, Bonferroni (default)": lambda s, c, _: auditor(s, c).epsilon_one_run_fdp(0.05, 1e-5) > 0,
        "Gaussian DP": lambda s, c, _: auditor(s, c).epsilon_from_gdp(0.05, 1e-5) > 0,
    } | ({"Gaussian DP, checkout": newer} if source else {})
