"""What a version folder of TensorRT-LLM's layouts leads to."""

import json
from pathlib import Path
from typing import Any

import pytest

from tritium.llm.model_files import BrokenFile
from tritium.llm.trtllm_files import read_trtllm_files


def write_config(folder: Path, name: str, max_batch_size: int = 0, **parameters: str) -> None:
    listed = "".join(f'parameters {{ key: "{k}" value {{ string_value: "{v}" }} }}\n' for k, v in parameters.items())
    backend = "tensorrtllm" if name == "tensorrt_llm" else "python"
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(f'backend: "{backend}"\nmax_batch_size: {max_batch_size}\n{listed}')


def write_checkpoint(folder: Path) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (folder / "model.safetensors").write_bytes(b"")
    return str(folder)


def write_engine(folder: Path) -> str:
    """A compiled engine: its config.json is TensorRT-LLM's own."""
    folder.mkdir()
    config = {
        "version": "0.17",
        "pretrained_config": {"mapping": {"tp_size": 2, "pp_size": 1}},
        "build_config": {"max_seq_len": 4096},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "rank0.engine").write_bytes(b"")
    return str(folder)


def arguments_of(repository: Path) -> dict[str, Any]:
    return dict(read_trtllm_files(repository / "tensorrt_llm" / "1").arguments)


def test_the_tokenizer_s_folder_may_hold_the_checkpoint(tmp_path: Path) -> None:
    """Engine and tokenizer are named as the template says; what the engine knows of itself is taken."""
    checkpoint, engine = write_checkpoint(tmp_path / "llama"), write_engine(tmp_path / "engine")
    write_config(tmp_path, "tensorrt_llm", 8, gpt_model_path=engine, enable_kv_cache_reuse="true")
    write_config(tmp_path, "preprocessing", 8, tokenizer_dir=checkpoint)
    assert arguments_of(tmp_path) == {
        "model": checkpoint,
        "max_num_seqs": 8,
        "enable_prefix_caching": True,
        "max_model_len": 4096,
        "tensor_parallel_size": 2,
    }


def test_the_checkpoint_may_be_named(tmp_path: Path) -> None:
    """The parameter goes before all else, and may be a hub name; the tokenizer stays where it was."""
    write_config(
        tmp_path, "tensorrt_llm", checkpoint="org/llama", gpt_model_path="${engine_dir}", enable_chunked_context="False"
    )
    write_config(tmp_path, "postprocessing", tokenizer_dir="/tokenizer")
    assert arguments_of(tmp_path) == {"model": "org/llama", "tokenizer": "/tokenizer", "enable_chunked_prefill": False}


def test_an_engine_alone_is_refused(tmp_path: Path) -> None:
    """What cannot be run is said, with where was looked and what to set."""
    engine = write_engine(tmp_path / "engine")
    write_config(tmp_path, "tensorrt_llm", gpt_model_path=engine)
    write_config(tmp_path, "preprocessing", tokenizer_dir="${tokenizer_dir}")
    with pytest.raises(BrokenFile, match="holds a compiled engine, which is bound to one version") as error:
        arguments_of(tmp_path)
    assert f"looked in: {engine}" in error.value.message
    assert 'key: "checkpoint"' in error.value.hint
    assert error.value.path == tmp_path / "tensorrt_llm" / "config.pbtxt"


def test_a_template_never_filled_in_is_refused(tmp_path: Path) -> None:
    """Nothing is named."""
    write_config(tmp_path, "tensorrt_llm", gpt_model_path="${engine_dir}")
    with pytest.raises(BrokenFile, match="no folder is named by gpt_model_path or tokenizer_dir"):
        arguments_of(tmp_path)


def test_model_yaml_is_read(tmp_path: Path) -> None:
    """The LLM API's arguments, without Triton's part, by the names that every engine understands."""
    write_config(tmp_path, "tensorrt_llm")
    (tmp_path / "tensorrt_llm/1/model.yaml").write_text(
        "model: org/llama\nbackend: pytorch\ntensor_parallel_size: 2\nmax_seq_len: 512\n"
        "kv_cache_config:\n  dtype: fp8\ntriton_config:\n  decoupled: true\n  max_batch_size: 0\n"
    )
    assert arguments_of(tmp_path) == {
        "model": "org/llama",
        "tensor_parallel_size": 2,
        "max_model_len": 512,
        "kv_cache_config": {"dtype": "fp8"},
    }
    read = read_trtllm_files(tmp_path / "tensorrt_llm" / "1")
    assert read.path == tmp_path / "tensorrt_llm" / "1" / "model.yaml"


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("model: [\n", "is no YAML", 2),
        ("tensor_parallel_size: 2\n", "does not say which model", 0),
        ("- model\n", "does not say which model", 0),
        ("model: a\nbackend: tensorrt\n", 'only "pytorch"', 0),
    ],
)
def test_a_broken_model_yaml_is_refused(tmp_path: Path, text: str, message: str, line: int) -> None:
    """With the place of the mistake."""
    write_config(tmp_path, "tensorrt_llm")
    (tmp_path / "tensorrt_llm/1/model.yaml").write_text(text)
    with pytest.raises(BrokenFile, match=message) as error:
        arguments_of(tmp_path)
    assert error.value.line == line


def test_model_json_goes_first(tmp_path: Path) -> None:
    """A model that was moved already is read as any other."""
    write_config(tmp_path, "tensorrt_llm")
    (tmp_path / "tensorrt_llm/1/model.json").write_text('{"model": "here"}')
    (tmp_path / "tensorrt_llm/1/model.yaml").write_text("model: there\n")
    assert arguments_of(tmp_path) == {"model": "here"}
