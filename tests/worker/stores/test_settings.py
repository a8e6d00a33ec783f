"""Settings: every one is documented, and unknown and bad ones are refused in one line."""

import importlib
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from worker.stores.logs import set_up_logging
from worker.stores.redis_urls import celery_url, socket_url, without_password
from worker.stores.settings import (
    MAX_SOCKET_PATH_BYTES,
    PREFIX,
    Settings,
    SettingsError,
    load_settings,
    socket_path,
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_compose_hands_every_setting_to_the_containers() -> None:
    compose = (Path(__file__).parents[3] / "docker-compose.yml").read_text("utf-8")
    for name in Settings.model_fields:
        assert re.search(rf"^ +{PREFIX}{name.upper()}:", compose, re.MULTILINE), name


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BETAVAE_HOME", str(tmp_path))
    monkeypatch.setenv("BETAVAE_PORT", "9000")
    monkeypatch.setenv("BETAVAE_REDIS_URL", "")
    monkeypatch.setenv("BETAVAE_LOG_LEVEL", "debug")
    settings = load_settings()
    assert (settings.home, settings.port, settings.redis_url, settings.log_level) == (tmp_path, 9000, None, "DEBUG")
    assert settings.storage == str(tmp_path)


def test_the_data_folder_does_not_move_with_the_working_directory() -> None:
    assert load_settings().home.is_absolute()


@pytest.mark.parametrize(
    ("variable", "hint"), [("BETAVAE_PROT", "BETAVAE_PORT"), ("BETAVAE_REDIS", "BETAVAE_REDIS_URL")]
)
def test_an_unknown_setting_is_named_with_the_near_one(
    monkeypatch: pytest.MonkeyPatch, variable: str, hint: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value) == f"{variable} is not a setting; did you mean {hint}?"


@pytest.mark.parametrize("variable", ["BETAVAE_FOO", "BETAVAE_", "BETAVAE_WORKERS"])
def test_an_unknown_setting_that_is_near_to_none_gets_no_hint(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value) == f"{variable} is not a setting"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BETAVAE_PORT", "x"),
        ("BETAVAE_PORT", "70000"),
        ("BETAVAE_DEVICE", "gpu"),
        ("BETAVAE_DEVICE", "cuda:"),
        ("BETAVAE_REDIS_URL", "http://localhost"),
        ("BETAVAE_CHECKPOINT_SECONDS", "0"),
        ("BETAVAE_LOG_LEVEL", "loud"),
        ("BETAVAE_MAX_UPLOAD_BYTES", "-1"),
        ("BETAVAE_ALLOWED_HOSTS", "http://lab.example"),
        ("BETAVAE_ALLOWED_HOSTS", "lab.example:8000"),
        ("BETAVAE_ALLOWED_HOSTS", "*.lab.example"),
        ("BETAVAE_ALLOWED_ORIGINS", "lab.example"),
        ("BETAVAE_ALLOWED_ORIGINS", "https://lab.example/"),
        ("BETAVAE_ALLOWED_ORIGINS", "*"),
        ("BETAVAE_ALLOWED_ORIGINS", "null"),
        ("BETAVAE_EMBED_HOSTS", "blog.example"),
        ("BETAVAE_EMBED_HOSTS", "https://blog.example/course"),
        ("BETAVAE_EMBED_HOSTS", "https://*"),
        ("BETAVAE_EMBED_HOSTS", "https://a.*.example"),
        ("BETAVAE_EMBED_HOSTS", "https://blog.example; script-src *"),
        ("BETAVAE_EMBED_HOSTS", "'self'"),
    ],
)
def test_a_bad_value_is_reported_in_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value).startswith(f"{variable}: ")
    assert "\n" not in str(error.value)


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (load_settings().allowed_host_names, load_settings().allowed_origin_names) == ((), ())
    assert load_settings().embed_host_names == ()
    monkeypatch.setenv("BETAVAE_ALLOWED_HOSTS", ",VAE.example, [::1] ,10.0.0.7")
    monkeypatch.setenv("BETAVAE_ALLOWED_ORIGINS", "https://Lab.example:443,http://lab.example:443,http://[::1]:80,")
    monkeypatch.setenv("BETAVAE_EMBED_HOSTS", "https://Blog.example:8443, https://*.school.example,")
    settings = load_settings()
    assert settings.embed_host_names == ("https://blog.example:8443", "https://*.school.example")
    assert settings.allowed_host_names == ("vae.example", "[::1]", "10.0.0.7")
    assert settings.allowed_origin_names == ("https://lab.example", "http://lab.example:443", "http://[::1]")


@pytest.mark.parametrize(
    ("redis_url", "expected"),
    [
        ("redis://redis:6379/0", "redis://redis:6379/0"),
        ("rediss://u:p@h/1", "rediss://u:p@h/1?ssl_cert_reqs=required"),
        ("rediss://h/1?ssl_cert_reqs=none", "rediss://h/1?ssl_cert_reqs=none"),
        ("rediss://h/1?ssl_cert_reqs=required", "rediss://h/1?ssl_cert_reqs=required"),
        ("redis://h?db=3&socket_timeout=5", "redis://h/3"),
        ("unix:///tmp/C%23/b.sock", "redis+socket:///tmp/C%23/b.sock?virtual_host=0"),
        ("unix:///tmp/b.sock", "redis+socket:///tmp/b.sock?virtual_host=0"),
        ("unix:///tmp/b.sock?db=2", "redis+socket:///tmp/b.sock?virtual_host=2"),
    ],
)
def test_celery_gets_the_same_redis(redis_url: str, expected: str) -> None:
    assert celery_url(redis_url) == expected


_kombu: Any = importlib.import_module("kombu")
_Channel: Any = importlib.import_module("kombu.transport.redis").Channel
_SECRET = "Geheim7"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{_SECRET}#1@host:6379/0",
        f"redis://me:{_SECRET}@1@host:6379/0",
        f"redis://me:{_SECRET}/1@host:6379/0",
        f"redis://me:{_SECRET}?1@host:6379/0",
        f"redis://me:12/{_SECRET}@host:6379/0",
        f"redis://me:12?{_SECRET}=1@host:6379/0",
        f"redis://me:{_SECRET} 1@host:6379/0",
        f"redis://me:{_SECRET}@host:http/0",
        f"redis://me:{_SECRET}@host:6379/{_SECRET}",
        f"redis://me:{_SECRET}@[::1/0",
        f"rediss://me:{_SECRET}@host/0?ssl_cert_reqs={_SECRET}",
        f"redis://me:{_SECRET}@host/0?{_SECRET}=1",
        f"http://{_SECRET}@host",
        "unix://",
    ],
)
def test_a_redis_url_that_cannot_work_is_refused_without_being_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETAVAE_REDIS_URL", url)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    text = str(refused.value)
    assert text.startswith("BETAVAE_REDIS_URL: ")
    assert _SECRET not in text and "\n" not in text
    if "1@host" in url:
        assert "%40" in text and "%23" in text


@pytest.mark.parametrize("spelling", ["required", "CERT_REQUIRED", "none", "CERT_NONE"])
def test_both_spellings_of_the_certificates_work(spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETAVAE_REDIS_URL", f"rediss://:p%40ss%23@host:6380/2?ssl_cert_reqs={spelling}")
    settings = load_settings()
    assert settings.redis_url is not None
    connection: Any = redis.Redis.from_url(settings.redis_url).connection_pool.make_connection()
    assert (connection.password, connection.port, connection.db) == ("p@ss#", 6380, 2)
    with _kombu.Connection(settings.broker_url) as broker:
        assert (broker.password, broker.port, broker.virtual_host) == ("p@ss#", 6380, "2")
        assert broker.ssl


@pytest.mark.parametrize("name", ["C#", "what?", "50%2F", "a b", "return\r", "semi;colon", "ä€"])
def test_both_clients_find_the_socket_of_an_odd_folder(name: str) -> None:
    home = Path("/tmp/bv") / name  # Addresses of sockets are short, and nothing is made here.
    settings = Settings(home=home)
    path = str(home / "redis" / "broker.sock")
    connection: Any = redis.Redis.from_url(settings.embedded_redis_url).connection_pool.make_connection()
    assert connection.path == path
    url = celery_url(settings.embedded_redis_url)
    with _kombu.Connection(url) as broker:
        channel = _Channel.__new__(_Channel)
        channel.connection = SimpleNamespace(client=broker, default_port=6379)
        assert channel._connparams()["path"] == path


def test_a_folder_that_is_not_utf_8_has_a_short_socket(tmp_path: Path) -> None:
    path = socket_path(tmp_path / "caf\udce9")
    assert path.parent.parent == Path("/tmp")
    assert socket_url(path) == f"unix://{path}?db=0"
    path.parent.rmdir()


def test_there_is_no_broker_without_a_redis() -> None:
    with pytest.raises(SettingsError):
        _ = load_settings().broker_url


def test_a_password_stays_out_of_the_log() -> None:
    assert without_password("redis://me:secret@host:6379/0") == "redis://me:***@host:6379/0"
    assert without_password("unix:///tmp/b.sock?db=1") == "unix:///tmp/b.sock?db=1"


def test_a_message_of_many_lines_is_logged_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        set_up_logging(load_settings())
        logging.getLogger("celery").warning("Cannot connect:\nTrying again\n")
        logging.getLogger("celery").info("noise")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("length", [10, 200])
def test_a_socket_path_always_fits(tmp_path: Path, length: int) -> None:
    folder = tmp_path / ("d" * length)
    path = socket_path(folder)
    assert len(str(path)) <= MAX_SOCKET_PATH_BYTES
    assert path == socket_path(folder)
    if path.parent != folder:
        assert path.parent.stat().st_mode & 0o777 == 0o700
        path.parent.rmdir()


def test_a_short_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("e" * 200)
    private = socket_path(folder).parent
    private.chmod(0o755)
    with pytest.raises(SettingsError, match="private"):
        socket_path(folder)
    private.rmdir()


def test_the_embedded_redis_has_an_address_of_its_own(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.embedded_redis_url == f"unix://{tmp_path}/redis/broker.sock?db=0"
