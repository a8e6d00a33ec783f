"""Addresses of Redis: checked once as redis-py and kombu will parse them, and never shown with a password.

This module loads no torch.
"""

from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit, urlunsplit

import redis

_SCHEMES = ("redis", "rediss", "unix")
_CERT_REQS = {"CERT_NONE": "none", "CERT_OPTIONAL": "optional", "CERT_REQUIRED": "required"}
"""kombu's spelling of ssl_cert_reqs, which redis-py refuses, and redis-py's, which kombu also takes."""
_ENCODE = (
    "percent-encode special characters of the user and the password "
    "(@ is %40, : is %3A, / is %2F, # is %23, ? is %3F, % is %25)"
)


def checked_redis_url(url: str) -> str:
    """Checks that both clients can use an address.

    Args:
        url: Address of a Redis: redis://, rediss:// or unix://.

    Returns:
        The address, with ssl_cert_reqs as redis-py spells it.

    Raises:
        ValueError: The address cannot work. The text shows no part of it.
    """
    if not url.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES)):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"the port is not a number, or the address is damaged; {_ENCODE}") from None
    behind = parts.query if parts.scheme == "unix" else parts.path + parts.query
    if "#" in url or parts.netloc.count("@") > 1 or "@" in behind or any(map(str.isspace, url)):
        raise ValueError(f"holds a #, a second @, an @ behind the host, or a space; {_ENCODE}")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("names no socket; write unix:///path/of/the/socket")
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdecimal():
        raise ValueError(f"the database behind the host is not a number; {_ENCODE}")
    query = {key: _CERT_REQS.get(values[0], values[0]) for key, values in parse_qs(parts.query).items()}
    checked = _with_query(url, query)
    try:
        redis.ConnectionPool.from_url(checked).make_connection()
    except (redis.RedisError, TypeError, ValueError, OSError):
        raise ValueError(
            "has an option behind the ? that cannot be used; ssl_cert_reqs is none, optional or required"
        ) from None
    return checked


def socket_url(socket: Path) -> str:
    """Returns the address of a Redis on a Unix socket, as redis-py takes it."""
    return f"unix://{quote(str(socket))}?db=0"


def celery_url(redis_url: str) -> str:
    """Returns a URL of redis-py as Celery takes it, with the database in its path and only the options of TLS.

    Without such options, kombu would accept any certificate, and redis-py does not.
    """
    parts = urlsplit(redis_url)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    if parts.scheme == "unix":
        # urlunsplit would leave out the // before an empty host.
        return f"redis+socket://{parts.netloc}{parts.path}?{urlencode({'virtual_host': query.get('db', '0')})}"
    path = f"/{query['db']}" if "db" in query else parts.path
    options = {key: value for key, value in query.items() if key.startswith("ssl_")}
    if parts.scheme == "rediss":
        options.setdefault("ssl_cert_reqs", "required")
    return _with_query(urlunsplit(parts._replace(path=path)), options)


def _with_query(url: str, query: dict[str, str]) -> str:
    base = url.partition("?")[0]
    return f"{base}?{urlencode(query)}" if query else base


def without_password(url: str) -> str:
    """Returns a URL without its password, for a log."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@", 1)))
