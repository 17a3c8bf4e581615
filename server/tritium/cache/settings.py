"""The settings of the response cache, as `--cache-config=NAME,key=value` gives them.

Names, defaults and messages are those of tritonserver and of its local and Redis caches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tritium.core.errors import InvalidArgument

_FORMAT = "--cache-config option format is '<cache name>,<setting>=<value>'. Got "


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """A cache in this process, of `size_bytes` in all."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """A cache in Redis. TLS is on where `tls` is; certificates are PEM files, "" where there is none."""

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    connect_timeout_s: float = 5.0
    answer_timeout_s: float = 1.0
    tls: bool = False
    cert: str = ""
    key: str = field(default="", repr=False)
    cacert: str = ""
    cacert_dir: str = ""
    sni: str = ""

    @property
    def address(self) -> str:
        """Return host:port."""
        return f"{self.host}:{self.port}"


def read_cache_config(given: Sequence[str], environment: Mapping[str, str]) -> LocalSettings | RedisSettings | None:
    """Read the settings; None where there are none.

    Raises:
        InvalidArgument: a setting cannot be read, or there is more than one cache.
    """
    caches: dict[str, dict[str, str]] = {}
    for text in given:
        name, comma, rest = text.partition(",")
        if not comma or not name:
            raise InvalidArgument(
                f"No cache specified. --cache-config option format is <cache name>,<setting>=<value>. Got {text}"
            )
        key, equals, value = rest.partition("=")
        if not equals or not key or not value:
            raise InvalidArgument(_FORMAT + text)
        caches.setdefault(name, {})[key] = value
    if len(caches) > 1:
        raise InvalidArgument(
            "found multiple cache configurations, but only a single cache is currently supported",
            hint=f"keep one of {', '.join(sorted(caches))}",
        )
    for name, settings in caches.items():
        if name == "local":
            return LocalSettings(_size(settings.get("size", "")))
        if name == "redis":
            return _redis(settings, environment)
        raise InvalidArgument(
            f"unable to find 'libtritoncache_{name}.so' for cache", hint="the caches here are local and redis"
        )
    return None


def _size(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise InvalidArgument(
            f"the local cache needs its size in bytes, got '{text}'", hint="--cache-config=local,size=1048576"
        )
    return int(text)


def _redis(settings: Mapping[str, str], environment: Mapping[str, str]) -> RedisSettings:
    if "host" not in settings or "port" not in settings:
        raise InvalidArgument(
            "Failed to initialize RedisCache, didn't specify address. Must at a minimum specify 'host' and 'port' in "
            "the configuration - e.g. tritonserver --cache-config redis,host=redis --cache-config redis,port=6379 "
            "--model-repository=/models ..."
        )
    return RedisSettings(
        host=settings["host"],
        port=_number(settings["port"]),
        user=settings.get("user", environment.get("TRITONCACHE_REDIS_USERNAME", "")),
        password=settings.get("password", environment.get("TRITONCACHE_REDIS_PASSWORD", "")),
        db=_number(settings.get("db", "0")),
        connect_timeout_s=_number(settings.get("connect_timeout", "0")) / 1000 or 5.0,
        answer_timeout_s=_number(settings.get("socket_timeout", "0")) / 1000 or 1.0,
        tls=settings.get("tls_enabled") == "true",
        cert=settings.get("cert", ""),
        key=settings.get("key", ""),
        cacert=settings.get("cacert", ""),
        cacert_dir=settings.get("cacert_dir", ""),
        sni=settings.get("sni", ""),
    )


def _number(text: str) -> int:
    """Read a number as Triton does: what is none is 0."""
    return int(text) if text.isdigit() else 0
