"""POST /router/mode: another mode for a model's router while it serves."""


async def test_mode_is_set(door):
    """The model's fleet is told, and the answer names the mode as the setting does."""
    answer = await door.http.post("/router/mode", json={"model": "story", "router": "power-of-two"})
    assert answer.status_code == 200
    assert answer.json() == {"model": "story", "router": "power_of_two"}
    assert door.fleet.router == "power_of_two"


async def test_what_is_refused(door):
    """An unknown mode is a 400 that lists the modes, an unknown model a 404."""
    answer = await door.http.post("/router/mode", json={"model": "story", "router": "best"})
    assert answer.status_code == 400
    assert "unknown router 'best'" in answer.text
    assert "session" in answer.text
    answer = await door.http.post("/router/mode", json={"model": "nobody", "router": "kv"})
    assert answer.status_code == 404


async def test_session_header(door):
    """The header x-tritium-session reaches the router with the request."""
    body = {"model": "story", "prompt": "once", "max_tokens": 2}
    answer = await door.http.post("/v1/completions", json=body, headers={"x-tritium-session": "ann"})
    assert answer.status_code == 200
    assert door.fleet.requests[-1].session == "ann"
