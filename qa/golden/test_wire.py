"""What a real Triton did with bytes that are hardly, or not, HTTP: sent to this server."""


def test_wire_case(server, wire_case):
    """Every answer, and whether the connection goes on."""
    assert wire_case.ask(server.http) == wire_case.expected
