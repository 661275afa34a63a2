"""Public conformance suites: what a plug-in must obey to be met by name and trusted with a request.

    from expunge.testing import check_unlearner
    check_unlearner("my-method")        # raises Nonconforming with every broken law

Each suite is a tuple of small named laws; the plug-in is found through the registry, built-in or not.
"""

from expunge.testing.adapters import ADAPTER_LAWS, check_adapter, examine_adapter
from expunge.testing.attacks import ATTACK_LAWS, check_attack, examine_attack
from expunge.testing.checks import CHECK_LAWS, check_check, examine_check
from expunge.testing.erasers import ERASER_LAWS, check_eraser, examine_eraser
from expunge.testing.generators import GENERATOR_LAWS, check_generator, examine_generator
from expunge.testing.judges import JUDGE_LAWS, check_judge, examine_judge
from expunge.testing.laws import Broken, Nonconforming
from expunge.testing.places import PLACE_LAWS, check_place, examine_place
from expunge.testing.probes import PROBE_LAWS, check_probe, examine_probe
from expunge.testing.recommenders import RECOMMENDER_LAWS, check_recommender, examine_recommender
from expunge.testing.unlearners import UNLEARNER_LAWS, check_unlearner, examine_unlearner
from expunge.testing.world import World, make_world

__all__ = [
    "ADAPTER_LAWS",
    "ATTACK_LAWS",
    "CHECK_LAWS",
    "ERASER_LAWS",
    "GENERATOR_LAWS",
    "JUDGE_LAWS",
    "PLACE_LAWS",
    "PROBE_LAWS",
    "RECOMMENDER_LAWS",
    "UNLEARNER_LAWS",
    "Broken",
    "Nonconforming",
    "World",
    "check_adapter",
    "check_attack",
    "check_check",
    "check_eraser",
    "check_generator",
    "check_judge",
    "check_place",
    "check_probe",
    "check_recommender",
    "check_unlearner",
    "examine_adapter",
    "examine_attack",
    "examine_check",
    "examine_eraser",
    "examine_generator",
    "examine_judge",
    "examine_place",
    "examine_probe",
    "examine_recommender",
    "examine_unlearner",
    "make_world",
]
