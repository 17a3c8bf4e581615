import asyncio
import base64
from contextlib import asynccontextmanager

import pytest

from tritium.llm.template import ChatTemplate
from tritium.llm.tokenizer import Tokenizer
from tritium.openai.media.fetch import FetchRefused, fetch
from tritium.openai.media.policy import MediaPolicy
from tritium.openai.options import OpenAIOptions
from tritium.wire.http import Response
from tritium.wire.listener import listen_http

PNG = b"\x89PNG fake"
DATA = "data:image/png;base64," + base64.b64encode(PNG).decode()
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% else %}[{{ p['type'] }}]{% endif %}"
    "{% endfor %}{% endif %}<|end|>{% endfor %}"
)
LOCAL = MediaPolicy(("127.0.0.1",), most_bytes=1_000, timeout_s=5, most_redirects=2)


@pytest.fixture
def seeing(scripted, open_door):
    """A door of a model that takes media."""

    @asynccontextmanager
    async def open_(policy=LOCAL, modalities=("image", "audio")):
        tokenizer = Tokenizer(scripted.byte_level(), ChatTemplate(TEMPLATE, {}))
        async with open_door(OpenAIOptions(media=policy), tokenizer=tokenizer, modalities=modalities) as door:
            yield door

    return open_


@pytest.fixture
async def files():
    """A server of files: what it was asked, and how it answers by path."""
    asked = []

    async def handle(request):
        asked.append(request.path)
        port = listener.port
        match request.path:
            case "/a.png":
                return Response(200, [(b"content-type", b"image/png; x=y")], [PNG])
            case "/large":
                return Response(200, [], [b"x" * 2_000])
            case "/stream":
                stream = request.stream(200, [])
                for _ in range(20):
                    stream.write(b"x" * 100)
                stream.end()
                return None
            case "/slow":
                await asyncio.Event().wait()
            case "/away":
                return Response(302, [(b"location", b"/a.png")])
            case "/round":
                return Response(302, [(b"location", b"/round")])
            case "/inside":
                return Response(302, [(b"location", b"http://localhost:%d/a.png" % port)])
            case "/file":
                return Response(302, [(b"location", b"file:///etc/passwd")])
            case "/nowhere":
                return Response(302, [(b"location", b"http://[x/")])
            case "/empty":
                return Response(200, [], [])
        return Response(404)

    listener = await listen_http(handle, host="127.0.0.1", port=0)
    listener_url = f"http://127.0.0.1:{listener.port}"
    yield listener_url, asked
    await listener.close(0)


def _image(url):
    return {"type": "image_url", "image_url": {"url": url}}


async def _ask(door, *parts):
    body = {"model": "story", "messages": [{"role": "user", "content": list(parts)}]}
    return await door.http.post("/v1/chat/completions", json=body)


async def test_handed_to_the_engine(seeing, files):
    """Media reach the engine in the order of their places, from the request itself or fetched."""
    url, _ = files
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}}
    async with seeing() as door:
        answer = await _ask(door, {"type": "text", "text": "what "}, _image(DATA), sound, _image(f"{url}/away"))
        assert answer.status_code == 200, answer.text
        [asked] = door.fleet.requests
        assert [(m.kind, m.mime, m.data) for m in asked.media] == [
            ("image", "image/png", PNG),
            ("audio", "audio/wav", b"RIFF"),
            ("image", "image/png", PNG),
        ]
        text = "".join(door.fleet.tokenizer.token_bytes(i).decode() for i in asked.token_ids)
        assert text == "<|user|>what [image][audio][image]<|end|>"


async def test_through_the_other_protocols(seeing):
    """Responses and messages hand media on as well."""
    async with seeing() as door:
        items = [{"role": "user", "content": [{"type": "input_image", "image_url": DATA}]}]
        assert (await door.http.post("/v1/responses", json={"model": "story", "input": items})).status_code == 200
        source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
        turns = [{"role": "user", "content": [{"type": "image", "source": source}]}]
        body = {"model": "story", "max_tokens": 9, "messages": turns}
        assert (await door.http.post("/v1/messages", json=body)).status_code == 200
        assert [r.media[0].data for r in door.fleet.requests] == [PNG, PNG]


async def test_model_that_takes_none(open_door, door):
    """A model that does not take a kind refuses it and says what it takes; nothing is fetched."""
    answer = await _ask(door, _image(DATA))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages[0].content[0]")
    assert "takes text" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "video_url", "video_url": {"url": DATA}}, "a video"),
        ({"type": "image_embeds", "image_embeds": "AAAA"}, "image_embeds"),
        ({"type": "image_url"}, "needs a url"),
        (_image("data:image/png;base64"), "comma"),
        (_image("data:image/png;base64,A"), "base64"),
        (_image("data:image/png;base64,"), "empty"),
        (_image("data:image/png;base64," + "A" * 2_000), "larger"),
        (_image("file:///etc/passwd"), "neither an http"),
        (_image("ftp://127.0.0.1/x"), "neither an http"),
        (_image("http://images.example/a.png"), "nothing is fetched from images.example"),
        ({"type": "input_audio", "input_audio": {"format": "wav"}}, "needs data"),
    ],
)
async def test_refused(seeing, part, words):
    """What cannot be taken is refused with the place of the part."""
    async with seeing() as door:
        answer = await _ask(door, part)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"].startswith("messages[0].content[0]")) == (400, True)
        assert words in error["message"]
        assert door.fleet.requests == []


async def test_too_many(seeing):
    """A request has a bounded number of media."""
    async with seeing(MediaPolicy(most_items=2)) as door:
        assert (await _ask(door, *[_image(DATA)] * 2)).status_code == 200
        assert "at most 2" in (await _ask(door, *[_image(DATA)] * 3)).json()["error"]["message"]


async def test_too_large_together(seeing):
    """Files that are each small enough are refused where they are too large together."""
    policy = MediaPolicy(most_bytes=len(PNG), most_bytes_in_all=3 * len(PNG))
    async with seeing(policy) as door:
        assert (await _ask(door, *[_image(DATA)] * 3)).status_code == 200
        answer = await _ask(door, *[_image(DATA)] * 4)
        assert answer.status_code == 400
        assert f"come to more than {3 * len(PNG)} bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/large", "larger than 1000 bytes"),
        ("/stream", "larger than 1000 bytes"),
        ("/missing", "answers 404"),
        ("/round", "redirects more than 2 times"),
        ("/inside", "nothing is fetched from localhost"),
        ("/file", "neither an http"),
        ("/nowhere", "redirects to what is no URL"),
        ("/slow", "within 0.2 s"),
        ("/a b", "characters"),
    ],
)
async def test_fetching_is_bounded(files, path, words):
    """Size, time and redirects are bounded, and each redirect is held to the list again."""
    url, _ = files
    policy = MediaPolicy(LOCAL.hosts, 1_000, timeout_s=0.2 if path == "/slow" else 5, most_redirects=2)
    with pytest.raises(FetchRefused, match=words):
        await fetch(url + path, policy)


async def test_server_that_changes_the_protocol():
    """A server that answers a plain request by leaving HTTP is refused like one that never spoke it."""

    def answer(_reader, writer):
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(FetchRefused, match="does not answer in HTTP"):
            await fetch(f"http://127.0.0.1:{port}/", LOCAL)


async def test_listed_name_at_a_private_address(files):
    """A listed name that leads to a private address is not followed, unless that address is listed too."""
    url, asked = files
    named = url.replace("127.0.0.1", "localhost")
    with pytest.raises(FetchRefused, match="private network"):
        await fetch(f"{named}/a.png", MediaPolicy(("localhost",)))
    with pytest.raises(FetchRefused, match="private network"):
        await fetch(f"{named}/a.png", MediaPolicy(("*",)))
    assert asked == []
    assert (await fetch(f"{named}/a.png", MediaPolicy(("localhost", "127.0.0.0/8")))).data == PNG


async def test_nobody_answers():
    """A host that is not there is refused with the reason."""
    with pytest.raises(FetchRefused, match="could not be fetched"):
        await fetch("http://127.0.0.1:9/x", LOCAL)
