"""Artefacts as LensKit, RecBole, Cornac and implicit write them, made without these libraries: the classes are empty
ones that say they live in their modules, the attributes are those of lenskit 2025.8.1 and 2026.4.0, recbole 1.2.1,
cornac 3.0.1 and implicit 0.7.3."""

from __future__ import annotations

import enum
import pickle
import sys
import types
import warnings
from collections import OrderedDict
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import torch
from scipy import sparse


def rows(users=40, items=9, *, seed=0, values=(1,)):
    """(U, I) CSR of whole numbers; every item occurs, and more than once."""
    rng = np.random.default_rng(seed)
    dense = rng.choice(values, (users, items)) * (rng.random((users, items)) < np.linspace(0.15, 0.6, items))
    return sparse.csr_matrix(dense.astype(np.float64))


def gram(x):
    return np.rint((x.T @ x).toarray()).astype(np.int64)


def ease(x, lam, dtype=np.float64):
    """B by its definition."""
    inverse = np.linalg.inv((x.T @ x).toarray().astype(dtype) + np.eye(x.shape[1], dtype=dtype) * dtype(lam))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@contextmanager
def faked(**classes):
    """Make classes importable under `module.Class` names while something is pickled; `__` stands for a dot."""
    named = {name.replace("__", "."): made for name, made in classes.items()}
    added = {}
    for path, made in named.items():
        module, _, name = path.rpartition(".")
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            prefix = ".".join(parts[:end])
            added.setdefault(prefix, types.ModuleType(prefix))
        made.__module__, made.__qualname__, made.__name__ = module, name, name
        setattr(added[module], name, made)
    before = {name: sys.modules.get(name) for name in added}
    sys.modules.update(added)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def instance(**attributes):
    """An empty class, and its instance with these attributes."""
    made = type("Made", (), {})
    found = made()
    found.__dict__.update(attributes)
    return made, found


def pydantic(**attributes):
    """The same with the state of a pydantic model."""
    state = {
        "__dict__": attributes,
        "__pydantic_extra__": None,
        "__pydantic_fields_set__": set(attributes),
        "__pydantic_private__": None,
    }
    made = type("Made", (), {"__getstate__": lambda self: state})
    return made, made()


# ------------------------------------------------------------------------------------------------------------- lenskit


def lenskit_scorer(path, weights, lam, items, *, protocol=4, vocab="_vocab", more=None):
    """`pickle.dump(scorer)`, or with `more` a pipeline that looks up histories (indices of users and items)."""
    scorer_class, scorer = instance()
    config_class, config = pydantic(regularization=lam)
    vocab_class, vocabulary = instance(name="item", array=pa.array(items))
    scorer.__dict__.update(config=config, items=vocabulary, weights=weights)
    classes = {
        "lenskit__knn__ease__EASEScorer": scorer_class,
        "lenskit__knn__ease__EASEConfig": config_class,
        f"lenskit__data__{vocab}__Vocabulary": vocab_class,
    }
    value = scorer
    if more is not None:
        users, numbers = more
        set_class, relations = instance(
            name="rating",
            columns=["user_num", "item_num"],
            table=pa.table({"user_num": pa.array(users, pa.int32()), "item_num": pa.array(numbers, pa.int32())}),
        )
        users_of = vocab_class()
        users_of.__dict__.update(name="user", array=pa.array([f"u{n}" for n in range(max(users) + 1)]))
        relations.vocabularies = {"user": users_of, "item": vocabulary}
        node_class, node = instance(name="scorer", types={int, bytes}, component=scorer)
        lookup_class, lookup = instance(interactions=relations)
        history = node_class()
        history.__dict__.update(name="history-lookup", types=set(), component=lookup)
        pipe_class, value = instance(_nodes={"history-lookup": history, "scorer": node}, name=None)
        classes |= {
            f"lenskit__data__{vocab.replace('vocab', 'relationships')}__MatrixRelationshipSet": set_class,
            "lenskit__basic__history__UserTrainingHistoryLookup": lookup_class,
            "lenskit__pipeline__nodes__ComponentInstanceNode": node_class,
            "lenskit__pipeline___impl__Pipeline": pipe_class,
        }
    with faked(**classes):
        path.write_bytes(pickle.dumps(value, protocol))
    return path


# -------------------------------------------------------------------------------------------------------------- cornac


def cornac_model(path, x, lam, *, posB=False, protocol=5, tested=3, **changes):
    """What `Recommender.save` pickles: `tested` more items were only tested on."""
    weights = ease(x, lam)
    if posB:
        weights[weights < 0] = 0
    made, model = instance(
        name="EASEᴿ",
        trainable=True,
        verbose=False,
        is_fitted=True,
        ignored_attrs=["train_set", "val_set", "test_set"],
        num_users=x.shape[0],
        num_items=x.shape[1],
        uid_map=OrderedDict((f"user {n}", n) for n in range(x.shape[0])),
        iid_map=OrderedDict((f"item {n}", n) for n in range(x.shape[1] + tested)),
        max_rating=float(x.data.max()),
        min_rating=float(x.data.min()),
        global_mean=float(x.data.mean()),
        _Recommender__user_ids=None,
        _Recommender__item_ids=None,
        lamb=lam,
        posB=posB,
        seed=None,
        B=weights,
        U=x,
        best_value=float("-inf"),
        best_epoch=0,
        current_epoch=0,
        stopped_epoch=0,
        wait=0,
    )
    model.__dict__.update(changes)
    with faked(cornac__models__ease__recom_ease__EASE=made):
        path.write_bytes(pickle.dumps(model, protocol))
    return path


# ------------------------------------------------------------------------------------------------------------- recbole


def as_matrix(array):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(array)


def recbole_checkpoint(path, x, lam, **changes):
    """What the trainer saves with torch.save(..., pickle_protocol=4): float32, padding as user 0 and as item 0, rows and
    B as numpy."""
    padded = sparse.hstack([sparse.csr_matrix((x.shape[0], 1)), x]).tocsr().astype(np.float32)
    padded = sparse.vstack([sparse.csr_matrix((1, padded.shape[1]), dtype=np.float32), padded]).tocsr()
    model_type = enum.Enum("ModelType", {"TRADITIONAL": 4})
    config_class, config = instance(
        parameters={"General": ["gpu_id", "seed"]},
        final_config_dict={"reg_weight": lam, "MODEL_TYPE": model_type.TRADITIONAL, "device": torch.device("cpu")},
    )
    state = {
        "config": config,
        "epoch": 0,
        "cur_step": 0,
        "best_valid_score": np.float64(0.25),
        "state_dict": OrderedDict(dummy_param=torch.zeros(1)),
        "other_parameter": {
            "interaction_matrix": padded,
            "item_similarity": as_matrix(ease(padded, lam, np.float32)),
        },
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.001, "betas": (0.9, 0.999), "params": [0]}]},
    }
    state.update(changes)
    with faked(recbole__config__configurator__Config=config_class, recbole__utils__enum_type__ModelType=model_type):
        torch.save(state, path, pickle_protocol=4)
    return path


# ------------------------------------------------------------------------------------------------------------ implicit


def implicit_factors(path, *, users=7, items=5, factors=3, **changes):
    rng = np.random.default_rng(0)
    held = {
        "user_factors": rng.normal(size=(users, factors)).astype(np.float32),
        "item_factors": rng.normal(size=(items, factors)).astype(np.float32),
        "regularization": 0.01,
        "factors": factors,
        "num_threads": 0,
        "iterations": 15,
        "use_native": True,
        "use_cg": True,
        "cg_steps": 3,
        "calculate_training_loss": False,
        "dtype": "float32",
        "random_state": 3,
        "alpha": 1.0,
    }
    held.update(changes)
    np.savez(path, **{name: value for name, value in held.items() if value is not None})
    return path


def implicit_neighbours(path, similarity, kept=2):
    csr = sparse.csr_matrix(similarity)
    np.savez(path, K=kept, shape=csr.shape, data=csr.data, indptr=csr.indptr, indices=csr.indices)
    return path
