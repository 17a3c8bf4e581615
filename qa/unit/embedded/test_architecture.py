"""What a model folder may be, and what is said of one that may not."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tritium.backends.embedded.architecture import read_architecture
from tritium.backends.embedded.weights import read_weights
from tritium.core.errors import InvalidArgument, NotFound, Unsupported


def test_ends_come_from_both_files(model_writer: Callable[..., Path], tmp_path: Path) -> None:
    """The end tokens of config.json and generation_config.json are joined."""
    folder = model_writer(tmp_path, eos_token_id=[2, 3])
    (folder / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert read_architecture(folder).end_tokens == {2, 3, 5}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel is not known"),
        ({"architectures": None}, "none named"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"sliding_window": 16}, "sliding_window=16"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "rope type yarn"),
    ],
)
def test_what_is_not_computed_is_refused(
    changes: dict[str, object], words: str, model_writer: Callable[..., Path], tmp_path: Path
) -> None:
    """An option that would change the result is named, not ignored."""
    with pytest.raises(Unsupported, match=words):
        read_architecture(model_writer(tmp_path, **changes))


def test_a_missing_folder_and_a_broken_file_are_named(tmp_path: Path) -> None:
    """The message holds the path of the file at fault."""
    with pytest.raises(NotFound, match=r"config\.json does not exist"):
        read_architecture(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InvalidArgument, match=r"config\.json: "):
        read_architecture(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(InvalidArgument, match="'num_attention_heads' is missing"):
        read_architecture(tmp_path)


def test_bfloat16_and_float16_are_read(tmp_path: Path) -> None:
    """The three stored types give the same numbers, as far as they hold them."""
    values = np.array([[1.0, -2.5], [0.15625, 3e4]], np.float32)
    header = {
        "a": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "F16", "shape": [2, 2], "data_offsets": [8, 16]},
        "c": {"dtype": "F32", "shape": [2, 2], "data_offsets": [16, 32]},
    }
    text = json.dumps(header).encode()
    rounded = (values.view(np.uint32) >> 16).astype(np.uint16)
    content = rounded.tobytes() + values.astype(np.float16).tobytes() + values.tobytes()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content)
    weights = read_weights(tmp_path)
    np.testing.assert_array_equal(weights.take("a", 2, 2), (rounded.astype(np.uint32) << 16).view(np.float32))
    np.testing.assert_array_equal(weights.take("b", 2, 2), values.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(weights.take("c", 2, 2), values)


def test_files_of_an_index_are_joined(model_writer: Callable[..., Path], tmp_path: Path) -> None:
    """A model in several files is read whole."""
    folder = model_writer(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"part-{index % 2}.safetensors" for index, name in enumerate(names)}
    for part in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == part}, folder / part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    weights = read_weights(folder)
    assert all(name in weights for name in names)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it has 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "its header would have"),
        ((2).to_bytes(8, "little") + b"{[", "broken safetensors header"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    """An empty file, a Git LFS pointer and a broken header are told apart from weights."""
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InvalidArgument, match=words):
        read_weights(tmp_path)


def test_a_file_cut_short_is_refused(model_writer: Callable[..., Path], tmp_path: Path) -> None:
    """A download that broke off names the tensor it broke off in."""
    path = model_writer(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InvalidArgument, match="cut short"):
        read_weights(tmp_path)


def test_weights_that_do_not_fit_are_refused(model_writer: Callable[..., Path], tmp_path: Path) -> None:
    """A missing tensor, a wrong shape and a tensor of an unknown part are each refused by name."""
    weights = read_weights(model_writer(tmp_path))
    with pytest.raises(InvalidArgument, match="no tensor lm_head"):
        weights.take("lm_head.weight", 1)
    with pytest.raises(InvalidArgument, match=r"has shape \(32,\), expected \(31,\)"):
        weights.take("model.norm.weight", 31)
    with pytest.raises(Unsupported, match=r"parts of \d+ tensors, such as model\.embed"):
        weights.check_all_taken()
