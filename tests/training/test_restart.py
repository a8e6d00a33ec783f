"""The restart of a network, and the teacher that the old network becomes."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F

from models.config import NetworkConfig
from models.networks import VAE
from models.pixels import to_input
from training.data import dsprites
from training.data.packs import Pack
from training.restart import Teacher, restart


def test_a_restart_draws_the_network_anew_and_keeps_the_active_dimensions_in_place(pack: Pack) -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=4))
    images = to_input(pack.images[np.arange(64)], torch.device("cpu"))
    with torch.no_grad():
        network.encoder.mean.weight[1] *= 1000
        before, log_variance = network.encode(images)
    teacher = restart(network, images, seed=5)
    assert 1 in teacher.dimensions.tolist()
    targets = teacher.targets(images)
    after, _ = network.encode(images)
    assert not torch.equal(before, after)
    assert teacher.loss(targets, after, log_variance, 1.0) > 0
    assert teacher.loss(targets, before, log_variance, 1.0) == 0
    assert teacher.loss(targets, after, log_variance, 0.0) == 0


def test_a_restart_holds_no_dimension_that_is_next_to_idle(pack: Pack) -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=4))
    images = to_input(pack.images[np.arange(64)], torch.device("cpu"))
    with torch.no_grad():
        # KLs of 4.1, .1, .4 and 0: the second is active by its nats, and idle relative to the first.
        for layer in (network.encoder.mean, network.encoder.log_variance):
            layer.weight.zero_()
        network.encoder.log_variance.bias.zero_()
        network.encoder.mean.bias.copy_(torch.tensor([8.2, 0.2, 0.8, 0.0]).sqrt())
    assert restart(network, images, seed=5).dimensions.tolist() == [0, 2]


def test_after_a_restart_the_idlest_dimensions_learn_what_the_old_network_left(pack: Pack) -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=4))
    images = to_input(pack.images[np.arange(64)], torch.device("cpu"))
    with torch.no_grad():
        network.encoder.mean.weight[2] *= 1000
        network.encoder.mean.weight[1] = -network.encoder.mean.weight[2]  # Both carry the same information.
        network.encoder.mean.weight[3] *= 10
        means, log_variance = network.encode(images)
        left = F.avg_pool2d(images - torch.sigmoid(network.decoder(means)), 4).flatten(1).numpy()
    teacher = restart(network, images, seed=5, num_components=2)
    assert sorted(teacher.taught.tolist()) == [0, 3]
    assert teacher.dimensions.tolist() == [1, 2]
    scores, _, _ = np.linalg.svd(left - left.mean(0), full_matrices=False)
    means[:, teacher.taught] = torch.from_numpy(scores[:, :2]) * 8  # Unit variance over 64 images.
    heard = log_variance.clone()
    heard[:, teacher.taught] = -3
    targets = teacher.targets(images)
    distances = []
    for signs in itertools.product((-1.0, 1.0), repeat=2):  # The sign of a component is arbitrary.
        signed = means.clone()
        signed[:, teacher.taught] *= torch.tensor(signs)
        distances.append(teacher.loss(targets, signed, heard, 1.0).item())
    assert min(distances) < 1e-3 < sorted(distances)[1]
    assert teacher.loss(targets, signed, log_variance, 1.0) > distances[-1]


def test_a_restart_teaches_no_more_components_than_its_images_have(pack: Pack) -> None:
    torch.manual_seed(0)
    for count in (1, 2, 3):
        network = VAE(NetworkConfig(image_size=32, latent_dim=8))
        images = to_input(pack.images[np.arange(count)], torch.device("cpu"))
        teacher = restart(network, images, seed=5, num_components=6)
        assert len(teacher.taught) <= count - 1
        assert (teacher.residual is None) == (len(teacher.taught) == 0)
        others = to_input(pack.images[np.arange(20, 40)], torch.device("cpu"))
        with torch.no_grad():
            assert teacher.loss(teacher.targets(others), *network.encode(others), 1.0) < 1e5


def with_sprites_position_at_an_angle(network: VAE) -> None:
    """Returns a network whose latents 0 and 2 are the sprite's x and y, rotated by 30°; latents 1 and 3 are idle."""

    class Position(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            weights = images.sum(1) / images.sum((1, 2, 3))[:, None, None]
            along = torch.linspace(-5, 5, images.shape[-1])
            x, y = (weights.sum(1) * along).sum(1), (weights.sum(2) * along).sum(1)
            mean = torch.stack([0.866 * x - 0.5 * y, 0 * x, 0.5 * x + 0.866 * y, 0 * x], 1)
            return mean, torch.zeros_like(mean)

    network.encoder = Position()  # type: ignore[assignment]


def test_a_teacher_shows_its_latents_turned_to_independence() -> None:
    classes = np.random.default_rng(0).integers(0, dsprites.FACTOR_SIZES, (3000, 5))
    sprites = dsprites.render(classes, 32)[..., None]
    network = VAE(NetworkConfig(image_size=32, latent_dim=4))
    with_sprites_position_at_an_angle(network)
    teacher = Teacher(network, torch.tensor([0, 2]))
    images = to_input(sprites[:500], torch.device("cpu"))
    places = classes[:500, 3:]

    def crosstalk() -> float:
        found = np.abs(np.corrcoef(teacher.targets(images).numpy(), places, rowvar=False)[:2, 2:])
        return float(found.min(1).max())

    assert crosstalk() > 0.4
    teacher.turn(sprites, np.arange(len(sprites)))
    assert crosstalk() < 0.1
    assert teacher.targets(images).shape == (500, 2)


def test_a_teacher_comes_back_from_its_tensors(pack: Pack) -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=4))
    images = to_input(pack.images[np.arange(64)], torch.device("cpu"))
    with torch.no_grad():
        network.encoder.mean.weight[2] *= 1000
        network.encoder.mean.weight[1] = -network.encoder.mean.weight[2]
    teacher = restart(network, images, seed=5, num_components=2)
    assert teacher.dimensions.tolist() == [1, 2]
    teacher.rotation = torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
    back = Teacher.from_tensors(teacher.tensors(), teacher.dimensions.tolist(), network)
    with torch.no_grad():
        encoded = network.encode(images)
        assert back.loss(back.targets(images), *encoded, 0.5) == teacher.loss(teacher.targets(images), *encoded, 0.5)
