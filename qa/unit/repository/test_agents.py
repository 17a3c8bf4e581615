"""Repository agents: a model whose files are not what its configuration vouches for is not loaded."""

import hashlib

import pytest

from tritium.core.catalog import LoadParameters
from tritium.core.errors import Internal
from tritium.repository.settings import ControlMode

MD5 = hashlib.md5(b"one").hexdigest()


def agent(parameters, name="checksum"):
    return f"model_repository_agents {{ agents {{ name: '{name}' {parameters} }} }}"


def parameter(key, value=MD5):
    return f"parameters {{ key: '{key}' value: '{value}' }}"


async def test_files_with_the_right_sum_are_served(house):
    """The algorithm's name is read in any case; several files may be named."""
    house.write("a", agent(parameter("MD5:1/model.fake") + parameter("md5:2/model.fake")), versions=("1", "2"))
    registry = house.registry()
    await registry.start()
    assert registry.model("a").ready


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            agent(parameter("MD5:1/model.fake", "no")),
            f"Mismatched MD5 hash for file 1/model.fake, expect: no, got: {MD5}",
        ),
        (agent(parameter("MD5:none")), "failed to open text file for read none: No such file or directory"),
        (agent(parameter("MD5:/dev/zero")), "failed to open text file for read /dev/zero: it leads out of"),
        (agent(parameter("MD5:../a/1/model.fake")), "failed to open text file for read ../a/1/model.fake: it leads"),
        (agent(parameter("MD5:1")), "failed to open text file for read 1: it is no file"),
        (agent(parameter("SHA256:1/model.fake")), "Unsupported checksum algorithm: SHA256"),
        (agent(parameter("1/model.fake")), "failed to parse key: 1/model.fake"),
        (agent("", "decrypt"), "unable to find 'libtritonrepoagent_decrypt.so' for repo agent 'decrypt'"),
    ],
)
async def test_what_cannot_be_vouched_for_is_refused(house, text, message):
    """The load fails as one whose configuration is wrong, and the line of the agent is shown."""
    house.write("a", f"\n{text}")
    registry = house.registry(ControlMode.EXPLICIT)
    await registry.start()
    with pytest.raises(Internal, match="failed to load 'a', failed to poll from model repository") as caught:
        await registry.load("a", LoadParameters())
    assert caught.value.hint.startswith(message)
    (problem,) = house.registry().survey().problems
    assert (problem.line, problem.message.startswith(message)) == (3, True)


async def test_a_file_that_changes_is_verified_again(house):
    """A served model whose file is replaced by another goes on as it was."""
    house.write("a", agent(parameter("MD5:1/model.fake")))
    registry = house.registry(ControlMode.POLL, poll_s=3600)
    await registry.start()
    house.write("a", agent(parameter("MD5:1/model.fake")), content="forged")
    await registry.poll()
    assert registry.model("a").content == "one"
