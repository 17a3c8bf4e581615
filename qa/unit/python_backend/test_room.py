"""How much memory is left, as the machine and the container say; the front's twin reads the same."""

import pytest

from tritium.backends.python import room as of_processes
from tritium.wire import room as of_the_front

pytestmark = pytest.mark.parametrize("room", [of_processes, of_the_front])


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4000 kB\nMemAvailable: 3000 kB\nBuffers: 1 kB\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    return tmp_path


def contain(machine, most: str) -> None:
    """Put the process into a container that uses 1500 KiB, 500 of them for files."""
    group = machine / "sys/fs/cgroup"
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{1500 << 10}\n")
    (group / "memory.stat").write_text(f"anon 9\ninactive_file {300 << 10}\nactive_file {200 << 10}\n")


def test_the_machine_has_what_is_available(room, machine):
    """Without a container it is what the kernel calls available."""
    assert room.room_bytes(machine) == 3000 << 10


@pytest.mark.parametrize(("most", "left"), [("max", 3000), (str(2000 << 10), 1000), (str(900 << 10), 0)])
def test_a_container_has_less(room, machine, most, left):
    """In a container it is what its limit leaves; its cached files make room."""
    contain(machine, most)
    assert room.room_bytes(machine) == left << 10


def test_nobody_knows(room, tmp_path):
    """Where the system says nothing, nothing is refused."""
    assert room.room_bytes(tmp_path) > 1 << 60
