"""The forecast: sizes of well-known models, the arithmetic by hand, and what is said when nothing fits."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from qa.unit.migration.served import served
from qa.unit.migration.test_running import Triton

from tritium.migration.cli import main
from tritium.migration.forecasting.checkpoint import BadCheckpoint, ModelSize, read_size
from tritium.migration.forecasting.forecast import ARITHMETIC_SHARE, BANDWIDTH_SHARE, Load, forecast
from tritium.migration.forecasting.machine import GPUS
from tritium.migration.forecasting.repository import config_of
from tritium.migration.forecasting.usage import Counts, NoStatistics, counts, measure, usage

TINY = Path(__file__).parents[3] / "model_repository" / "tiny_chat" / "1" / "tiny_chat"
LLAMA = {
    "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
    "intermediate_size": 28672, "vocab_size": 128256, "torch_dtype": "bfloat16",
}  # fmt: skip
LLAMA_8B = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 128256, "torch_dtype": "bfloat16",
}  # fmt: skip
FP8 = {"quantization_config": {"quant_method": "fp8", "activation_scheme": "static"}}
QWEN = {
    "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
    "vocab_size": 151936,
}  # fmt: skip
MIXTRAL = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip
DEEPSEEK = {
    "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "intermediate_size": 18432,
    "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
    "first_k_dense_replace": 3, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280, "quantization_config": {"quant_method": "fp8"},
}  # fmt: skip
LOAD = Load(rate=5, prompt_tokens=1024, answer_tokens=256, first_token_s=1, between_tokens_s=0.05)


def size(tmp_path: Path, document: object) -> ModelSize:
    """Read a configuration."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(document))
    return read_size(file)


@pytest.mark.parametrize(
    ("document", "billions", "active", "kv_bytes"),
    [
        (LLAMA, 70.6, 70.6, 327680),
        (MIXTRAL, 46.7, 12.9, 131072),
        (QWEN, 30.53, 3.35, 98304),
        (DEEPSEEK, 671.0, 37.5, 70272),
    ],
    ids=["Llama 3 70B", "Mixtral 8x7B", "Qwen3 30B-A3B", "DeepSeek-V3"],
)
def test_well_known_models_have_their_published_sizes(
    tmp_path: Path, document: object, billions: float, active: float, kv_bytes: int
) -> None:
    """Parameters, those that are active, and bytes of cache a token."""
    found = size(tmp_path, document)
    assert found.parameters / 1e9 == pytest.approx(billions, rel=2e-3)
    assert found.active / 1e9 == pytest.approx(active, rel=4e-3)
    assert found.kv_bytes(2) == kv_bytes


def test_the_sample_checkpoint_has_the_size_of_its_file() -> None:
    """Counted parameters are those that lie in the file, but for its head of names."""
    found = read_size(TINY)
    assert found.weight_bytes == pytest.approx((TINY / "model.safetensors").stat().st_size, rel=5e-3)


def test_an_engine_is_read_too(tmp_path: Path) -> None:
    """TensorRT-LLM keeps the sizes under pretrained_config, with what it was quantised to."""
    engine = {"pretrained_config": {**LLAMA, "dtype": "bfloat16", "quantization": {"quant_algo": "FP8"}}}
    assert size(tmp_path, engine).weight_bytes == size(tmp_path, {**LLAMA, **FP8}).weight_bytes


EMBEDDINGS = 128256 * 4096
LAYER = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336
"""Of Llama 3 8B: queries and output, keys and values of 8 heads of 128, a gated MLP."""


def test_llama_3_8b_by_hand(tmp_path: Path) -> None:
    """8.03 billion parameters, 16.06 GB in bfloat16, 131072 bytes of cache a token, 411 thousand tokens on an H100."""
    found = size(tmp_path, LLAMA_8B)
    assert found.parameters == 2 * EMBEDDINGS + 32 * (LAYER + 2 * 4096) == pytest.approx(8.03e9, rel=1e-3)
    assert found.weight_bytes == 2 * found.parameters
    assert found.kv_bytes(2) == 2 * 8 * 128 * 32 * 2 == 131072
    room = (80e9 * 0.9 - 2e9 - found.weight_bytes) / 131072
    told = forecast(found, GPUS["h100"], LOAD, 2.0)
    assert told.aggregated is not None
    assert (told.aggregated.gpus_each, told.room_tokens) == (1, int(room))
    assert int(room / 1000) == 411


@pytest.mark.parametrize(
    ("quantization", "linear", "gigabytes"),
    [
        (FP8, 1.0, 9.08),
        ({"quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {
            "group_0": {"weights": {"num_bits": 8}}}}}, 1.0, 9.08),
        ({"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}, 4.15625 / 8, 5.73),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 64}}, 4.3125 / 8, 5.86),
        ({"quantization_config": {"quant_method": "gptq", "bits": 8}}, 1.0, 9.08),
        ({"quantization_config": {"quant_algo": "NVFP4", "group_size": 16}}, 4.5 / 8, 6.03),
    ],
    ids=["fp8", "compressed-tensors", "awq", "gptq", "gptq of 8 bits", "nvfp4"],
)  # fmt: skip
def test_quantised_weights_by_hand(
    tmp_path: Path, quantization: dict[str, object], linear: float, gigabytes: float
) -> None:
    """Linear layers are packed, with scales; embeddings, head and norms stay (files of this model in AWQ: 5.73 GB)."""
    found = size(tmp_path, {**LLAMA_8B, **quantization})
    assert found.weight_bytes == pytest.approx(32 * LAYER * linear + 2 * (2 * EMBEDDINGS + 32 * 2 * 4096))
    assert found.weight_bytes / 1e9 == pytest.approx(gigabytes, rel=2e-3)


def test_seventy_billion_on_four_gpus_or_two(tmp_path: Path) -> None:
    """In bfloat16 141 GB want four H100, 35.3 GB each; in FP8 two hold them, with room for less cache."""
    plain, packed = size(tmp_path, LLAMA), size(tmp_path, {**LLAMA, **FP8})
    whole, half = (forecast(one, GPUS["h100"], LOAD, 2.0) for one in (plain, packed))
    assert whole.aggregated is not None
    assert half.aggregated is not None
    assert (whole.aggregated.gpus_each, half.aggregated.gpus_each) == (4, 2)
    assert plain.weight_bytes / 4 == pytest.approx(35.3e9, rel=1e-3)
    assert packed.weight_bytes / 2 == pytest.approx(36.3e9, rel=2e-3)
    assert whole.room_tokens == int((4 * (80e9 * 0.9 - 2e9) - plain.weight_bytes) / 327680)
    assert half.room_tokens == int((2 * (80e9 * 0.9 - 2e9) - packed.weight_bytes) / 327680)


def test_a_repository_is_asked_for_its_checkpoint(tmp_path: Path) -> None:
    """The one that model.json names; one that is kept elsewhere, several, and none are told."""
    root = TINY.parents[2]
    assert config_of(root) == TINY
    (tmp_path / "chat" / "1").mkdir(parents=True)
    with pytest.raises(BadCheckpoint, match=r"no model\.json below it"):
        config_of(tmp_path)
    (tmp_path / "chat" / "1" / "model.json").write_text('{"model": "org/large"}')
    with pytest.raises(BadCheckpoint, match="serves org/large, which is kept elsewhere"):
        config_of(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name / "1" / "weights").mkdir(parents=True)
        (tmp_path / name / "1" / "weights" / "config.json").write_text("{}")
        (tmp_path / name / "1" / "model.json").write_text('{"model": "weights"}')
    with pytest.raises(BadCheckpoint, match=r"several models, name one: .*/a/1/weights, .*/b/1/weights"):
        config_of(tmp_path)
    assert CliRunner().invoke(main, ["forecast", str(root)]).exit_code == 0


@pytest.mark.parametrize("document", [[], {}, {"hidden_size": 8}])
def test_what_is_no_language_model_is_refused(tmp_path: Path, document: object) -> None:
    """With the file, and the first size that is missing."""
    with pytest.raises(BadCheckpoint, match=r"config\.json"):
        size(tmp_path, document)


def test_the_arithmetic_by_hand(tmp_path: Path) -> None:
    """Four H100 hold 141 GB of weights; the times of prefill and of a step follow from the formulas."""
    model, gpu = size(tmp_path, LLAMA), GPUS["h100"]
    found = forecast(model, gpu, LOAD, 2.0)
    assert found.aggregated is not None
    assert found.apart is not None
    assert (found.aggregated.gpus, found.apart.gpus) == (4, 8)
    prefill_s = (2 * model.active * 1024 + 2 * 80 * 8192 * 1024**2) / (4 * gpu.flops * ARITHMETIC_SHARE)
    weights_s = model.weight_bytes / (4 * gpu.bandwidth * BANDWIDTH_SHARE)
    assert found.aggregated.longest_gap_s - prefill_s == pytest.approx(
        weights_s + found.aggregated.requests * (1024 + 128) * 327680 / (4 * gpu.bandwidth * BANDWIDTH_SHARE)
    )
    assert found.apart.longest_gap_s < found.aggregated.longest_gap_s
    assert found.advice.startswith("aggregated: apart takes 8 GPUs instead of 4")


def test_more_load_takes_more_gpus_and_no_times_are_promised_that_cannot_be(tmp_path: Path) -> None:
    """Never fewer GPUs for more requests; where a GPU is too slow for the times, it is said."""
    model = size(tmp_path, LLAMA)
    gpus = []
    for rate in (1, 5, 25, 125):
        found = forecast(model, GPUS["h100"], Load(rate, 1024, 256, 1, 0.05), 2.0)
        assert found.aggregated is not None
        gpus.append(found.aggregated.gpus)
    assert gpus == sorted(gpus)
    assert gpus[0] < gpus[-1]
    never = forecast(model, GPUS["t4"], Load(1, 1024, 256, 0.01, 0.001), 2.0)
    assert (never.aggregated, never.apart) == (None, None)
    assert never.advice.startswith("neither keeps the times")


def test_statistics_become_a_rate() -> None:
    """Two counts, so many seconds apart; a quiet time is no division by zero."""
    entry = {"inference_stats": {"success": {"count": 30, "ns": 3_000_000_000}, "queue": {"count": 30, "ns": 600}}}
    assert counts({"model_stats": [entry, entry]}) == Counts(60, 6_000_000_000, 1200)
    found = usage(Counts(10, 0, 0), Counts(30, 2_000_000_000, 500_000_000), 10)
    assert (found.rate, found.mean_s, found.queue_share, found.concurrency) == (2.0, 0.1, 0.25, 0.2)
    assert usage(Counts(1, 1, 1), Counts(1, 1, 1), 10).concurrency == 0


def test_a_running_server_is_asked_twice() -> None:
    """With a wait between; one without the model is said to have none."""
    waits: list[float] = []
    with served(Triton) as url:
        assert measure(url, "add", 7.0, waits.append).rate == 0
        with pytest.raises(NoStatistics, match="nope"):
            measure(url, "nope", 7.0, waits.append)
    assert waits == [7.0]


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_the_command_prints_its_assumptions(form: str) -> None:
    """In every form, with the advice."""
    done = CliRunner().invoke(main, ["forecast", str(TINY), "--rate=5", f"--format={form}"])
    assert done.exit_code == 0, done.output
    assert "5 requests a second, as given" in done.output
    assert "aggregated: apart takes 2 GPUs instead of 1" in done.output


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    """No checkpoint: 2. A server without a model's name: usage."""
    assert CliRunner().invoke(main, ["forecast", str(tmp_path)]).exit_code == 2
    done = CliRunner().invoke(main, ["forecast", str(TINY), "--from=http://127.0.0.1:1"])
    assert (done.exit_code, "--from needs --model" in done.output) == (2, True)


def test_the_command_of_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first command of docs/migration/forecast.md, which needs no server, works as it is written."""
    root = TINY.parents[3]
    monkeypatch.chdir(root)
    page = (root / "docs/migration/forecast.md").read_text()
    command = next(
        line for line in page.splitlines() if line.startswith("    dynamo-migrate forecast model_repository")
    )
    done = CliRunner().invoke(main, command.split()[1:])
    assert done.exit_code == 0, done.output
    assert "x h100" in done.output
