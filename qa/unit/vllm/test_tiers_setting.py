"""The setting kv_tiers: read, refused, and what vLLM is told of it."""

import pytest
from qa.unit.vllm.test_settings import settle

from tritium.backends.engine import Role
from tritium.backends.vllm.tiers.counts import KEY, TierCounts
from tritium.backends.vllm.tiers.holdings import Change, Holdings
from tritium.backends.vllm.tiers.setting import read_tiers, store_settings
from tritium.core.errors import InvalidArgument
from tritium.kv.block import Tier
from tritium.kv.settings import Writing


def test_reads_every_part(tmp_path):
    """Sizes with units, directories, the object store's place and the finer settings reach the store."""
    text = f"host=1GiB,disk=2GB:{tmp_path}/a:{tmp_path}/b,object=1TiB:s3://bucket/prefix,writing=back,disk_min_uses=1"
    assert read_tiers(text + ",fetch=always").always
    assert not read_tiers(text).always
    settings = store_settings(read_tiers(text + ",object_timeout_s=2.5"), 4096, "m/seat_1/rank_0")
    assert settings.host.size_bytes == 1 << 30
    assert settings.disk.size_bytes == 2 * 10**9
    assert settings.disk.directories == (tmp_path / "a/m/seat_1/rank_0", tmp_path / "b/m/seat_1/rank_0")
    assert settings.disk.directories[0].is_dir()
    assert settings.disk.min_uses == 1
    assert (settings.objects.url, settings.objects.timeout_s) == ("s3://bucket/prefix", 2.5)
    assert settings.writing is Writing.BACK


def test_reads_where_peers_are(tmp_path):
    """A place, a secret from a file, and the keys that are asked for; without a place there are no peers."""
    (tmp_path / "secret").write_text("s" * 32 + "\n")
    text = f"host=1GiB,tenant_share=0.5,peers={tmp_path},peers_listen=0.0.0.0:7700,peers_secret={tmp_path}/secret"
    settings = store_settings(read_tiers(text), 4096, "m/seat_0/rank_0", b"shape")
    assert settings.tenant_share == 0.5
    assert settings.peers.at == (str(tmp_path),)
    assert (settings.peers.secret, settings.peers.prefix) == (b"s" * 32, b"shape")
    assert store_settings(read_tiers("host=1GiB"), 4096, "m/seat_0/rank_0", b"shape").peers is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a text"),
        (5, "must be a text"),
        ("host=much", "'much' is no size"),
        ("disk=1GiB", "absolute directories"),
        ("disk=1GiB:kv", "absolute directories"),
        ("object=1GiB", "needs a place"),
        ("writing=sideways", "sideways"),
        ("fetch=never", "neither advised nor always"),
        ("hots=1GiB", "did you mean host"),
        ("writing=back", "names no tier"),
        ("host=1GiB,tenant_share=2", "at most 1"),
        ("host=1GiB,peers=/run/kv,peers_listen=0.0.0.0:7700", "need a secret"),
        ("host=1GiB,peers=/run/kv,peers_secret=/nowhere/secret", "cannot be read"),
    ],
)
def test_refuses(text, words):
    """What cannot be is refused before anything starts, with the part that is wrong."""
    with pytest.raises(InvalidArgument, match=words) as refused:
        settle({"kv_tiers": text})
    assert "kv_tiers" in str(refused.value)


def test_is_a_connector_of_its_own_or_beside_nixl():
    """Alone it is vLLM's connector; where KV moves between workers, NIXL comes first and tiers second."""
    alone = settle({"kv_tiers": "host=1GiB"}, index=3, workers=4).arguments
    assert "kv_tiers" not in alone
    config = alone["kv_transfer_config"]
    assert config["kv_connector"] == "TieredConnector"
    assert config["kv_load_failure_policy"] == "recompute"
    assert config["kv_connector_extra_config"] == {"tiers": "host=1GiB", "scope": "m", "number": 3}
    both = settle({"kv_tiers": "host=1GiB"}, role=Role.DECODE).arguments["kv_transfer_config"]
    assert both["kv_connector"] == "MultiConnector"
    assert both["kv_load_failure_policy"] == "recompute"
    names = [one["kv_connector"] for one in both["kv_connector_extra_config"]["connectors"]]
    assert names == ["NixlConnector", "TieredConnector"]


def test_goes_with_neither_another_connector_nor_without_prefix_caching():
    """Two settings that contradict each other are refused instead of one being dropped."""
    with pytest.raises(InvalidArgument, match="kv_transfer_config"):
        settle({"kv_tiers": "host=1GiB", "kv_transfer_config": {}})
    with pytest.raises(InvalidArgument, match="enable_prefix_caching"):
        settle({"kv_tiers": "host=1GiB", "enable_prefix_caching": False})


class TestHoldings:
    def test_a_block_is_held_when_every_rank_has_its_part(self):
        """It comes from the slowest of the parts; a gap ends what is held."""
        held = Holdings(ranks=2)
        held.take(0, [Change(block, Tier.HOST, stored=True) for block in (b"1", b"2", b"3")])
        held.take(1, [Change(b"1", Tier.HOST, stored=True), Change(b"2", Tier.DISK, stored=True)])
        assert held.leading([b"1", b"2", b"3"]) == [Tier.HOST, Tier.DISK]
        assert b"2" in held
        assert b"3" not in held

    def test_a_block_leaves_tier_by_tier(self):
        """What left the host may still be on disk; what left both is forgotten."""
        held = Holdings(ranks=1)
        held.take(0, [Change(b"1", tier, stored=True) for tier in (Tier.HOST, Tier.DISK)])
        held.take(0, [Change(b"1", Tier.HOST, stored=False)])
        assert held.leading([b"1"]) == [Tier.DISK]
        held.take(0, [Change(b"1", Tier.DISK, stored=False), Change(b"1", Tier.DISK, stored=False)])
        assert held.leading([b"1"]) == []
        assert len(held) == 0


def test_counts_are_summed_over_ranks():
    """The newest counts of each worker process add up; with several connectors they come under a name."""
    counts = TierCounts()
    hits = "tritium_kv_tier_hits_total"
    counts.take({KEY: {"rank 0": [[hits, "host", 1]], "rank 1": [[hits, "host", 5]]}})
    counts.take({KEY: {"rank 0": [[hits, "host", 3], [hits, "disk", 2]]}})
    counts.take({"bytes_transferred": [1]})
    (family,) = counts.families()
    assert (family.name, family.kind) == (hits, "counter")
    assert {value.labels["tier"]: value.value for value in family.values} == {"host": 8, "disk": 2}
