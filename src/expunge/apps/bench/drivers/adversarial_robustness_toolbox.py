"""ART: it has neither an epsilon bound nor a p-value, so its one calibrated claim is measured: the worst-case score's
threshold "at 5 % FPR" against one fresh nonmember a repetition."""
# mypy: ignore-errors


def version(source):
    """Of the distribution."""
    from importlib import metadata

    return metadata.version("adversarial-robustness-toolbox")


def methods(source):
    """get_roc_for_fpr at a targeted FPR of .05."""
    import warnings

    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.metrics.privacy.worst_case_mia_score import get_roc_for_fpr

    def fresh(scores, coins, seed):
        ((_, _, threshold),) = get_roc_for_fpr(scores, coins.astype(int), targeted_fpr=0.05)
        return np.random.default_rng([seed, 1]).standard_normal() >= threshold

    return {"get_roc_for_fpr, a fresh nonmember": fresh}
