"""--cache-config, as tritonserver takes it."""

import pytest

from tritium.cache.settings import LocalSettings, RedisSettings, read_cache_config
from tritium.core.errors import InvalidArgument


def test_no_cache_is_nothing() -> None:
    """Without the flag there is no cache."""
    assert read_cache_config((), {}) is None


def test_local() -> None:
    """A size in bytes."""
    assert read_cache_config(["local,size=1048576"], {}) == LocalSettings(1 << 20)


def test_redis() -> None:
    """Times are milliseconds; the environment gives what the flags leave out; what is no number is 0."""
    given = ["redis,host=h", "redis,port=6379", "redis,db=2", "redis,socket_timeout=250", "redis,tls_enabled=true"]
    environment = {"TRITONCACHE_REDIS_USERNAME": "me", "TRITONCACHE_REDIS_PASSWORD": "secret"}
    expected = RedisSettings("h", 6379, "me", "secret", 2, answer_timeout_s=0.25, tls=True)
    assert read_cache_config(given, environment) == expected
    assert read_cache_config([*given, "redis,password=a=b"], environment) != expected
    odd = read_cache_config(["redis,host=h", "redis,port=nonexistent"], {})
    assert isinstance(odd, RedisSettings)
    assert odd.port == 0
    assert "secret" not in repr(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["size=1"], "No cache specified. --cache-config option format is <cache name>,<setting>=<value>. Got size=1"),
        (["local,size"], "--cache-config option format is '<cache name>,<setting>=<value>'. Got local,size"),
        (["local,size="], "--cache-config option format is '<cache name>,<setting>=<value>'. Got local,size="),
        (["local,size=8192", "redis,key=value"], "found multiple cache configurations, but only a single cache is"),
        (["local,size=much"], "the local cache needs its size in bytes, got 'much'"),
        (["redis,port=6379"], "Must at a minimum specify 'host' and 'port' in the configuration"),
        (["mine,a=b"], "unable to find 'libtritoncache_mine.so' for cache"),
    ],
)
def test_refused(given: list[str], message: str) -> None:
    """What cannot be read is said in tritonserver's words."""
    with pytest.raises(InvalidArgument) as caught:
        read_cache_config(given, {})
    assert message in caught.value.message
