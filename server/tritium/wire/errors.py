"""What goes wrong before a byte is exchanged: addresses that cannot be listened on, certificates that cannot be read.

WireError
  ├── ListenError   the address is taken, forbidden or not this machine's
  └── TlsError      a certificate, key or client authority cannot be used
"""


class WireError(Exception):
    """A listener cannot start; `hint` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message}\n  hint: {hint}" if hint else message)
        self.message = message
        self.hint = hint


class ListenError(WireError):
    """An address cannot be listened on; `taken` where another program does."""

    def __init__(self, host: str, port: int, reason: str, *, hint: str = "", taken: bool = False) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {reason}", hint=hint)
        self.host = host
        self.port = port
        self.taken = taken


class TlsError(WireError):
    """A certificate, a key or a client authority cannot be used."""
