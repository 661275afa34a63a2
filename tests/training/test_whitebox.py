"""The inside of every family against autograd, one record at a time, finite differences and an exact trace."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from expunge.core.errors import InputError
from expunge.core.protocols import HasWhiteBox
from expunge.testing.world import make_world, random_records
from expunge.training.batches import normalise

COLOUR = random_records(8, (16, 16, 3), 4)
FAMILIES = [
    ("mlp", {"width": 12, "depth": 2}),
    ("resnet", {"width": 4}),
    ("resnet", {"width": 4, "norm": "group"}),
    ("resnet", {"width": 4, "depth": 8}),
    ("convnet", {"width": 8, "wide": 12}),
]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opened(tmp_path, family="mlp", model=None, shards=1, data=COLOUR):
    """A family and a model whose BatchNorm buffers are not those of the start."""
    world = make_world(tmp_path, family=family, data=data, model=model or {}, shards=shards, introduce=(0.0,))
    modules = []
    for seed in range(shards):
        net = world.adapter.module(torch.Generator().manual_seed(seed))
        draw = torch.Generator().manual_seed(100 + seed)
        for layer in net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(generator=draw)
                layer.running_var.uniform_(0.5, 2, generator=draw)
        modules.append(net.eval())
    return world.adapter, modules, data.train.images, data.train.labels


def loop_gradients(modules, images, labels):
    """One record, one backward pass."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    rows = []
    for image, label in zip(images, labels, strict=True):
        logits = torch.stack([module(normalise(torch.from_numpy(image[None]))) for module in modules]).mean(0)
        found = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([int(label)])), parameters)
        rows.append(torch.cat([part.flatten() for part in found]).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize(("family", "model"), FAMILIES)
def test_gradients_are_those_of_one_backward_pass_a_record(tmp_path, family, model, shards):
    adapter, modules, images, labels = opened(tmp_path, family, model, shards)
    assert isinstance(adapter, HasWhiteBox)
    twin = loop_gradients(modules, images, labels)
    scale = np.abs(twin).max()
    assert np.abs(adapter.gradients(modules, images, labels) - twin).max() < 1e-5 * scale
    norms = adapter.gradient_norms(modules, images, labels)
    assert norms == pytest.approx(np.linalg.norm(twin, axis=1), rel=1e-4)
    assert adapter.flat_weights(modules).shape == (twin.shape[1],)


def test_gradients_are_the_slope_of_the_loss(tmp_path):
    """Finite differences along the flat weights, in the order that flat_weights has."""
    adapter, modules, images, labels = opened(tmp_path, "mlp", {"width": 12})
    parameters = [p for p in modules[0].parameters() if p.requires_grad]
    direction = torch.randn(sum(p.numel() for p in parameters), generator=torch.Generator().manual_seed(5))
    start = torch.from_numpy(adapter.flat_weights(modules))
    losses = []
    for step in (1e-4, -1e-4):
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(start + step * direction, parameters)
        losses.append(-adapter.outputs(modules, images)[np.arange(len(labels)), labels])
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(start, parameters)
    slope = (losses[0] - losses[1]) / 2e-4
    assert adapter.gradients(modules, images, labels) @ direction.numpy() == pytest.approx(slope, rel=0.02, abs=0.02)


def test_a_confident_answer_keeps_its_gradient(tmp_path):
    """In float32, p − 1 is 0 for p above 1 − 6e-8; the gradient is not, and members are where p is largest."""
    adapter, modules, images, labels = opened(tmp_path)
    norms = []
    for scale in (1.0, 40.0):
        with torch.no_grad():
            modules[0][-1].weight.zero_()
            modules[0][-1].bias.copy_(scale * F.one_hot(torch.tensor(int(labels[0])), 4))
        norms.append(float(adapter.gradient_norms(modules, images[:1], labels[:1])[0]))
    wrong = [3 / (np.exp(scale) + 3) for scale in (1.0, 40.0)]
    assert norms[1] / norms[0] == pytest.approx(wrong[1] / wrong[0], rel=1e-3)


def test_projection_keeps_inner_products_on_average(tmp_path):
    adapter, modules, images, labels = opened(tmp_path, "mlp", {"width": 4})
    full = adapter.gradients(modules, images, labels).astype(np.float64)
    products = full @ full.T
    sketched = []
    for seed in range(200):
        part = adapter.gradients(modules, images, labels, project=16, seed=seed).astype(np.float64)
        assert part.shape == (8, 16)
        sketched.append(part @ part.T)
    error = np.mean(sketched, axis=0) - products
    spread = np.std(sketched, axis=0, ddof=1) / np.sqrt(200)
    assert (np.abs(error) <= 4.5 * spread + 1e-9).all()
    norms = np.outer(np.diag(products), np.diag(products))
    assert np.var(sketched, axis=0).mean() <= 1.3 * ((norms + products**2) / 16).mean()


def loss_at(module, label):
    return lambda pixels: F.cross_entropy(module(pixels), torch.tensor([int(label)]))


def exact_hessian(module, image, label):
    pixels = normalise(torch.from_numpy(image[None]))
    return torch.autograd.functional.hessian(loss_at(module, label), pixels).reshape(pixels.numel(), -1)


def draws_are(monkeypatch, signs):
    """The probes are these, whatever the seed."""
    fixed = type("Fixed", (), {"__init__": lambda *_: None, "choice": lambda *_: np.asarray(signs, np.float32)})
    monkeypatch.setattr(np.random, "Generator", fixed)


def test_curvature_is_the_trace_of_the_input_hessian(tmp_path):
    """Hutchinson's mean of 200 probes against the full Hessian; its variance is 2 Σ_{i≠j} H²."""
    adapter, modules, images, labels = opened(tmp_path, "mlp", {"width": 6}, data=random_records(3, (4, 4, 1), 3))
    found = adapter.curvatures(modules, images, labels, probes=200, seed=3)
    for value, image, label in zip(found, images, labels, strict=True):
        hessian = exact_hessian(modules[0], image, label)
        off = hessian - torch.diag(torch.diag(hessian))
        assert abs(value - float(torch.trace(hessian))) <= 4.5 * float((2 * off.square().sum() / 200).sqrt())


def test_all_sign_patterns_give_the_exact_trace(tmp_path, monkeypatch):
    adapter, modules, images, labels = opened(tmp_path, "mlp", {"width": 5}, data=random_records(2, (2, 2, 1), 2))
    draws_are(monkeypatch, np.array(list(itertools.product([-1, 1], repeat=4))).reshape(16, 1, 2, 2))
    found = adapter.curvatures(modules, images, labels, probes=16)
    exact = [float(torch.trace(exact_hessian(modules[0], i, k))) for i, k in zip(images, labels, strict=True)]
    assert found == pytest.approx(exact, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(("family", "model"), FAMILIES)
def test_one_probe_is_one_quadratic_form(tmp_path, monkeypatch, family, model):
    """In double precision, record by record."""
    adapter, modules, images, labels = opened(tmp_path, family, model)
    sign = np.random.default_rng(0).choice([-1.0, 1.0], (1, 3, 16, 16))
    draws_are(monkeypatch, sign)
    found = adapter.curvatures(modules, images[:3], labels[:3], probes=1)
    exact, double = torch.from_numpy(sign), modules[0].double()
    for value, image, label in zip(found, images, labels, strict=False):
        pixels = normalise(torch.from_numpy(image[None])).double()
        _, product = torch.autograd.functional.vhp(loss_at(double, label), pixels, exact)
        assert value == pytest.approx(float((product * exact).sum()), rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("shards", [1, 2])
def test_features_are_what_the_last_layer_reads(tmp_path, shards):
    adapter, modules, images, _ = opened(tmp_path, "resnet", {"width": 4}, shards)
    found = adapter.features(modules, images)
    assert found.shape == (8, 32 * shards)
    for number, module in enumerate(modules):
        logits = found[:, 32 * number : 32 * (number + 1)] @ module[-2].weight.detach().numpy().T * module[-1].factor
        with torch.no_grad():
            assert logits == pytest.approx(module(normalise(torch.from_numpy(images))).numpy(), abs=1e-4)


CALLS = {
    "features": lambda a, m, x, y: a.features(m, x),
    "gradients": lambda a, m, x, y: a.gradients(m, x, y, project=8, seed=1),
    "gradient_norms": lambda a, m, x, y: a.gradient_norms(m, x, y),
    "curvatures": lambda a, m, x, y: a.curvatures(m, x, y, probes=2),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("family", ["mlp", "convnet"])
def test_a_record_alone_has_the_same_value_and_no_record_has_none(tmp_path, name, family):
    adapter, modules, images, labels = opened(tmp_path, family, {"width": 8})
    whole = CALLS[name](adapter, modules, images, labels)
    assert whole.dtype == np.float32
    alone = np.concatenate([CALLS[name](adapter, modules, images[[i]], labels[[i]]) for i in range(len(labels))])
    assert alone == pytest.approx(whole, rel=1e-3, abs=1e-5)
    none = CALLS[name](adapter, modules, images[:0], labels[:0])
    assert none.shape == (0, *whole.shape[1:])


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_looking_changes_nothing(tmp_path, name, grad):
    adapter, modules, images, labels = opened(tmp_path, "resnet", {"width": 4})
    before = {key: tensor.clone() for key, tensor in modules[0].state_dict().items()}
    state, kept = torch.get_rng_state(), images.copy()
    with torch.set_grad_enabled(grad):
        first = CALLS[name](adapter, modules, images, labels)
        torch.manual_seed(1)
        assert np.array_equal(first, CALLS[name](adapter, modules, images, labels))
        torch.set_rng_state(state)
        CALLS[name](adapter, modules, images, labels)
        assert torch.is_grad_enabled() is grad
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(kept, images)
    assert all(torch.equal(before[key], tensor) for key, tensor in modules[0].state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in modules[0].parameters())
    assert not any(layer._forward_hooks or layer.training for layer in modules[0].modules())


def test_hooks_are_removed_when_the_model_fails(tmp_path):
    adapter, modules, images, _ = opened(tmp_path)
    with pytest.raises(RuntimeError):
        adapter.features(modules, images[:, :3])
    assert not any(layer._forward_hooks for layer in modules[0].modules())


class Twice(torch.nn.Module):
    """The same layer two times over."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(self.layer(x.flatten(1)))


def test_what_has_no_one_gradient_a_record_is_refused(tmp_path):
    data = random_records(4, (2, 2, 1), 4)
    adapter, modules, images, labels = opened(tmp_path, data=data)
    with pytest.raises(InputError, match="more than once"):
        adapter.gradient_norms([Twice().eval()], images, labels)
    with pytest.raises(InputError, match="kind PReLU"):
        adapter.gradients([torch.nn.Sequential(*modules[0], torch.nn.PReLU()).eval()], images, labels)
    with pytest.raises(InputError, match="training mode"):
        adapter.gradient_norms([modules[0].train()], images, labels)
    modules[0].eval()
    for wrong in (labels[:2], labels.astype(float), labels + 4, labels - 1):
        with pytest.raises(InputError, match="label"):
            adapter.curvatures(modules, images, wrong)
    with pytest.raises(InputError, match="probes"):
        adapter.curvatures(modules, images, labels, probes=0)
    with pytest.raises(InputError, match="projection"):
        adapter.gradients(modules, images, labels, project=-1)
