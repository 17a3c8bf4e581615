"""The files in which implicit states start out, and the rules of their configuration."""

from pathlib import Path

import pytest
from google.protobuf import text_format

from tritium.backends.contract import ModelSource
from tritium.compat.config.implicit_state import check_states
from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import InvalidArgument
from tritium.repository.initial_state import initial_states

STATE = """state { input_name: "S" output_name: "T" data_type: TYPE_INT32 dims: [ -1, 2 ]
    initial_state: { name: "i" data_type: TYPE_INT32 dims: [ 1, 2 ] data_file: "zero" } }"""


def source(folder: Path, state: str = STATE) -> ModelSource:
    """Return a model whose configuration has this state."""
    text = f"sequence_batching {{ {state} }}"
    proto = text_format.Parse(text, model_config_pb2.ModelConfig(name="m", backend="b"))
    return ModelSource(from_proto(proto), folder, "1")


def write(folder: Path, content: bytes) -> None:
    """Write the file of the state."""
    (folder / "initial_state").mkdir()
    (folder / "initial_state" / "zero").write_bytes(content)


def test_a_file_gives_as_much_as_the_state_takes(tmp_path: Path) -> None:
    """What is left over in the file is not read; a state without a file has no content."""
    write(tmp_path, bytes(range(12)))
    assert initial_states(source(tmp_path)) == {"S": bytes(range(8))}
    assert initial_states(source(tmp_path, STATE.replace('data_file: "zero"', "zero_data: true"))) == {}


def test_strings_lie_after_their_lengths(tmp_path: Path) -> None:
    """A file of a string state holds exactly its elements."""
    strings = STATE.replace("TYPE_INT32", "TYPE_STRING")
    write(tmp_path, b"\x01\0\0\0a\0\0\0\0")
    assert initial_states(source(tmp_path, strings)) == {"S": b"\x01\0\0\0a\0\0\0\0"}
    (tmp_path / "initial_state" / "zero").write_bytes(b"\x64\0\0\0")
    with pytest.raises(InvalidArgument, match="expects 2 strings"):
        initial_states(source(tmp_path, strings))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("zero", "initial_state setting expects 8 bytes, but the data provided from zero only has 4 bytes."),
        ("none", "failed to open text file for read {folder}/initial_state/none: No such file or directory"),
        ("../config.pbtxt", "initial_state data_file '../config.pbtxt' is not in {folder}/initial_state"),
    ],
)
def test_files_that_cannot_be_are_refused(tmp_path: Path, file: str, message: str) -> None:
    """The file must be there, within its folder, and long enough."""
    write(tmp_path, bytes(4))
    (tmp_path / "config.pbtxt").write_bytes(bytes(8))
    with pytest.raises(InvalidArgument) as caught:
        initial_states(source(tmp_path, STATE.replace('"zero"', f'"{file}"')))
    assert caught.value.message == message.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (STATE, ""),
        (STATE.replace("TYPE_INT32 dims: [ 1", "TYPE_FP32 dims: [ 1"), "does not match the state data type."),
        (STATE.replace('name: "i"', ""), "Field 'name' must be set when using initial_state for state input 'S'."),
        (STATE.replace("[ 1, 2 ]", "[ 2 ]"), "state' dimensions for state input 'S'. 1 != 2"),
        (STATE.replace("[ 1, 2 ]", "[ -1, 2 ]"), "state input name 'S' contains variable dimensions."),
        (STATE.replace("[ 1, 2 ]", "[ 1, 3 ]"), "'initial_state' dim for input name 'S' doesn't match"),
        (STATE.replace('data_file: "zero"', ""), "initial_state setting expects state'S' to have state_data set"),
        (
            STATE[:-1] + 'initial_state: { name: "j" } }',
            "must contain exactly one or zero element. Found '2' elements.",
        ),
        (STATE + STATE, "State input name 'S' specified more than once."),
        (STATE[:-1] + "use_growable_memory: true }", "you must also enable 'use_single_buffer' for state input name"),
    ],
)
def test_the_configuration_is_checked_in_tritons_words(state: str, message: str) -> None:
    """Each rule that is broken is told; a sound state has none."""
    findings = list(check_states(source(Path(), state).config.proto))
    assert [message in finding.message for finding in findings] == ([True] if message else [])
