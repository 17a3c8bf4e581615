"""Keeps the server alive when a client shortens an object while a request reads or writes a region of it.

    watch(mapping) --client truncates, server touches--> SIGBUS --> private zero pages in its place, `lost`

The size is looked at when a request comes, but a request may wait, and there is no lock a client would have to take.
Wayland compositors meet their clients' buffers the same way. A SIGBUS from anywhere else takes its usual course.
"""

import ctypes
import mmap
import signal
import weakref

_SIGSET_BYTES = 128
_SA_SIGINFO = 4
_ADDRESS_AT = 16  # of si_addr in siginfo_t, where pointers have 64 bits
_MAP_FIXED = 0x10

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Action(ctypes.Structure):
    """The C library's struct sigaction."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * _SIGSET_BYTES),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Watched:
    """Where a region is mapped, and whether its memory was `lost` while it was used."""

    __slots__ = ("end", "lost", "start")

    def __init__(self, start: int, size: int) -> None:
        self.start = start
        self.end = start + size
        self.lost = False


_watched: dict[int, Watched] = {}
_before = _Action()
# Not CDLL: no other thread shall run between the fault and the pages that end it.
_c = ctypes.PyDLL(None, use_errno=True)
_c.mmap.restype = ctypes.c_void_p
_c.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_c.sigaction.argtypes = (ctypes.c_int, ctypes.POINTER(_Action), ctypes.POINTER(_Action))


def watch(mapping: mmap.mmap) -> Watched:
    """Survive a fault in this mapping for as long as it lives."""
    if not _watched:
        _install()
    watched = Watched(ctypes.addressof(ctypes.c_char.from_buffer(mapping)), len(mapping))
    _watched[watched.start] = watched
    weakref.finalize(mapping, _forget, watched).atexit = False
    return watched


def _forget(watched: Watched) -> None:
    if _watched.get(watched.start) is watched:  # else the address is another mapping's by now
        del _watched[watched.start]


def _install() -> None:
    action = _Action(handler=ctypes.cast(_on_fault, ctypes.c_void_p), flags=_SA_SIGINFO)
    before = _Action()
    _c.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(before))
    if before.handler != action.handler:
        ctypes.pointer(_before)[0] = before


def _meet(_signal: int, info: int, _context: int) -> None:
    """Run in the thread that touched the page, which tries again afterwards."""
    address = ctypes.c_size_t.from_address(info + _ADDRESS_AT).value
    for watched in list(_watched.values()):
        if watched.start <= address < -(-watched.end // mmap.PAGESIZE) * mmap.PAGESIZE:
            how = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
            access = mmap.PROT_READ | mmap.PROT_WRITE
            got = _c.mmap(watched.start, watched.end - watched.start, access, how, -1, 0)
            if got == watched.start:
                watched.lost = True
                return
    _c.sigaction(signal.SIGBUS, ctypes.byref(_before), None)


_on_fault = _Handler(_meet)
