"""Where a model would like the outputs of its calls. There is only the CPU here: preferences are kept, not acted on."""

from enum import IntEnum

from tritium.compat.pb_utils.runtime import runtime


class MemoryType(IntEnum):
    """Kinds of memory, numbered as TRITONSERVER_MemoryType."""

    TRITONSERVER_MEMORY_CPU = 0
    TRITONSERVER_MEMORY_GPU = 2


TRITONSERVER_MEMORY_CPU = MemoryType.TRITONSERVER_MEMORY_CPU
TRITONSERVER_MEMORY_GPU = MemoryType.TRITONSERVER_MEMORY_GPU


class SharedMemory:
    """The memory through which large outputs leave."""

    def free_memory(self) -> int:
        """Return how many bytes of what has been set aside hold nothing; more is set aside when it is needed."""
        return runtime().free_memory()


class PreferredMemory:
    """A preference for the outputs of a call."""

    __slots__ = ("preferred_device_id", "preferred_memory_type")

    def __init__(self, preferred_memory_type: MemoryType, preferred_device_id: int = 0) -> None:
        self.preferred_memory_type = MemoryType(preferred_memory_type)
        self.preferred_device_id = preferred_device_id
