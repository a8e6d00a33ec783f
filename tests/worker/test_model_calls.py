"""Calls of a model in a worker."""

from typing import Any

import numpy as np
import pytest
import redis
import torch

from models.config import NetworkConfig
from models.files import LoadedModel
from models.info import ModelInfo, Preprocessing
from models.networks import VAE
from worker.model_calls import answer_key, read_answer, run_model_call, submit_call


@pytest.mark.parametrize("kind", ["encode", "reconstruct"])
def test_finite_weights_whose_numbers_overflow_are_a_failure_with_a_code(redis_server: str, kind: str) -> None:
    network = NetworkConfig(image_size=32, num_channels=1, latent_dim=2)
    vae = VAE(network).eval()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.fill_(3e38)
    info = ModelInfo(name="large", network=network, preprocessing=Preprocessing(image_size=32, num_channels=1))
    client: Any = redis.Redis.from_url(redis_server, protocol=2)
    call = submit_call(client, kind, "large", pixels=np.full((32, 32, 1), 200, np.uint8))
    assert run_model_call(call, client, lambda _: LoadedModel(vae, info), None)  # type: ignore[arg-type]
    answer = read_answer(client.lpop(answer_key(call)))
    assert answer.error is not None
    assert answer.error[0] == "model_overflow"
    client.close()
