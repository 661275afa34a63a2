"""opake-auditing: one_run on its own coin flips; scores know nothing of them."""
# mypy: ignore-errors


def version(source):
    """Of the distribution."""
    from importlib import metadata

    return metadata.version("opake-auditing")


def methods(source):
    """Default threshold (the best in sight) and a threshold of 0, which is set before the coins."""
    import opake.auditing as auditing
    from opake.random import key

    def estimate(scores, seed):
        flips = auditing.coin_flip(range(len(scores)), num_canaries=len(scores), key=key(seed))
        return auditing.one_run(auditing.canary_scores(scores, canary_indices=flips.canary_indices), coin_flip=flips)

    return {
        "one_run eps_delta, default threshold": lambda s, _, seed: estimate(s, seed).eps_delta().epsilon_at() > 0,
        "one_run eps_delta, threshold set before": lambda s, _, seed: (
            estimate(s, seed).eps_delta().epsilon_at(threshold=0.0) > 0
        ),
        "one_run gdp (default), default threshold": lambda s, _, seed: estimate(s, seed).epsilon_at(delta=1e-5) > 0,
    }
