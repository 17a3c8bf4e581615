"""A model that raises or misbehaves in execute: what the client is told, and that the instance goes on."""

import asyncio

import pytest

from tritium.core import errors
from tritium.core.errors import InferenceError, ModelFailed

PREFIX = "Failed to process the request(s) for model 'm_0_0', message: "


async def failure(model, *values) -> str:
    with pytest.raises(ModelFailed) as caught:
        await model.infer(*values or ([0.0],))
    return caught.value.message


async def test_raising(serve):
    """The text is Triton's: type, message, and the frames from the innermost out."""
    model = await serve(
        """
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                self.inner()
            def inner(self):
                raise RuntimeError("boom in execute")
        """
    )
    file = (await failure(model)).split("At:\n  ")[1].split("(")[0]
    assert file.endswith("/m/1/model.py")
    expected = f"{PREFIX}RuntimeError: boom in execute\n\nAt:\n  {file}(6): inner\n  {file}(4): execute\n"
    assert expected == await failure(model)


async def test_raising_in_a_coroutine(serve):
    """An `async def execute` that raises is told the same way."""
    model = await serve(
        """
        class TritonPythonModel:
            async def execute(self, requests):
                await self.inner()
            async def inner(self):
                raise KeyError("k")
        """
    )
    said = await failure(model)
    assert said.startswith(f"{PREFIX}KeyError: 'k'\n\nAt:\n  ")
    assert ["(" + line.split("(")[1] for line in said.split("\n")[3:5]] == ["(5): inner", "(3): execute"]


async def test_raising_what_is_no_exception(serve):
    """A cancellation that escapes from execute is an error of the request; the process lives on."""
    model = await serve(
        """
        import asyncio, os
        class TritonPythonModel:
            def execute(self, requests):
                raise asyncio.CancelledError(os.getpid())
        """
    )
    assert (await failure(model)).startswith(f"{PREFIX}CancelledError: {model.instance.pid}\n\nAt:\n")


async def test_every_request_of_the_batch_fails(serve):
    """An exception fails each request of its execution, and only those."""
    model = await serve(
        """
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                if len(requests) > 1:
                    raise ValueError(len(requests))
                return [pb_utils.InferenceResponse([])]
        """
    )
    batch = model.submit(model.request([0.0]), model.request([0.0]))
    alone = model.submit(model.request([0.0]))
    failed = await asyncio.gather(*batch, return_exceptions=True)
    assert [error.message.removeprefix(PREFIX).split("\n")[0] for error in failed] == ["ValueError: 2"] * 2
    assert (await alone[0]).outputs == []


def choosing(line: str) -> str:
    """Return a model whose execute is one line, with the number it was sent as `choice`."""
    return (
        "import numpy as np\nimport triton_python_backend_utils as pb_utils\n"
        "class TritonPythonModel:\n    def execute(self, requests):\n"
        f"        choice = int(requests[0].inputs()[0].as_numpy()[0])\n        {line}\n"
    )


RETURNED = {
    "'text'": "Expected a list in the execute return, found type '<class 'str'>'.",
    "[]": "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
    "InferenceRequest(s) size is:1, and InferenceResponse(s) size is:0\n",
    "[1]": "Expected an 'InferenceResponse' object in the execute function return list, found type '<class 'int'>'.",
}


async def test_wrong_returns(serve):
    """A wrong type, number or element is an error in Triton's words."""
    model = await serve(choosing(f"return ({', '.join(RETURNED)})[choice]"))
    told = [await failure(model, [float(choice)]) for choice in range(len(RETURNED))]
    assert told == [PREFIX + said for said in RETURNED.values()]


MADE = {
    "pb_utils.Tensor('OUTPUT0', [1.0])": "TypeError: Tensor 'OUTPUT0' needs a numpy array, not list",
    "pb_utils.Tensor('', np.zeros(1))": "TritonModelException: Tensor name cannot be an empty string.",
    "pb_utils.Tensor('OUTPUT0', np.zeros(1, complex))": "TritonModelException: NumPy dtype is not supported: complex",
    "None": "TritonModelException: Output tensor for inference response should not be empty.",
    "5": "TypeError: output_tensors must hold pb_utils.Tensor objects, found <class 'int'>",
}


async def test_responses_that_cannot_be_made(serve):
    """A tensor or response made of the wrong things is refused where it is made, by name."""
    makers = ", ".join(f"lambda: {made}" for made in MADE)
    model = await serve(choosing(f"return [pb_utils.InferenceResponse([({makers})[choice]()])]"))
    for choice, said in enumerate(MADE.values()):
        assert (await failure(model, [float(choice)])).startswith(PREFIX + said)


async def test_texts_that_cannot_be_sent(serve):
    """Lone surrogates, an exception without a text, endless ones: an error that says it, in the same process."""
    model = await serve(
        """
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class Mute(Exception):
            def __str__(self): raise SystemExit(3)
        def deep(): deep()
        def fail(error): raise error
        class TritonPythonModel:
            def execute(self, requests):
                return [pb_utils.InferenceResponse([], **[
                    lambda: fail(ValueError("a \\udc80 b")),
                    lambda: fail(Mute()),
                    lambda: fail(ValueError("x" * 1_000_000)),
                    lambda: deep(),
                    lambda: {"error": pb_utils.TritonError("a \\udc80 b")},
                    lambda: {"parameters": {"p": "a \\udc80 b"}},
                    lambda: {"parameters": {"p": 1 << 70}},
                    lambda: pb_utils.Logger.log_info("a \\udc80 b") or fail(ValueError("after logging")),
                ][int(requests[0].inputs()[0].as_numpy()[0])]())]
        """
    )
    pid = model.instance.pid
    told = [await failure(model, [float(choice)]) for choice in range(8)]
    assert [text.removeprefix(PREFIX).split("\n")[0] for text in (*told[:2], told[3], told[4], told[7])] == [
        "ValueError: a \\udc80 b",
        "Mute: (no text: its __str__ raised SystemExit)",
        "RecursionError: maximum recursion depth exceeded",
        "a \\udc80 b",
        "ValueError: after logging",
    ]
    assert "... (1000000 characters)" in told[2]
    assert max(len(text) for text in told) < 80_000
    assert " more ..." in told[3]
    assert "parameters of the response are wrong: it cannot be sent: UnicodeEncodeError" in told[5]
    assert "parameters of the response are wrong: it cannot be sent: OverflowError" in told[6]
    assert model.instance.pid == pid


async def test_asking_what_cannot_be_sent(serve):
    """A call with a name that is no text raises in the model, and costs no other message."""
    model = await serve(
        """
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                tensor = pb_utils.Tensor("IN", np.zeros(1, np.float32))
                request = pb_utils.InferenceRequest(
                    model_name="m\\udc80", inputs=[tensor], requested_output_names=["OUT"]
                )
                response = request.exec()
                try:
                    pb_utils.is_model_ready("m\\udc80")
                except pb_utils.TritonModelException as error:
                    raise ValueError(f"{response.error().message()} / {error}")
        """
    )
    said = await failure(model)
    assert "ValueError: the request to model 'm\\\\udc80' is wrong, it cannot be sent: UnicodeEncodeError" in said
    assert "/ the request to ready model 'm\\\\udc80' is wrong" in said


async def test_no_execute(serve):
    """A class without execute loads, and says so when it is asked."""
    model = await serve("class TritonPythonModel: pass\n")
    said = await failure(model)
    assert said.startswith(f"{PREFIX}Python model /")
    assert said.endswith("/m/1/model.py does not implement `execute` method.")


async def test_error_responses(serve):
    """An InferenceResponse with a TritonError answers with its code and text, whatever the code."""
    model = await serve(
        """
        import triton_python_backend_utils as pb_utils
        E = pb_utils.TritonError
        class TritonPythonModel:
            def execute(self, requests):
                code = int(requests[0].inputs()[0].as_numpy()[0])
                error = E("plain") if code < 0 else E(f"coded {code}", code)
                return [pb_utils.InferenceResponse(error=error)]
        """
    )
    kinds = ("Unknown", "ModelFailed", "NotFound", "InvalidArgument", "Unavailable", "Unsupported", "AlreadyExists")
    for code, kind in enumerate((*kinds, "Cancelled")):
        with pytest.raises(InferenceError) as caught:
            await model.infer([float(code)])
        assert (getattr(errors, kind), f"coded {code}") == (type(caught.value), caught.value.message)
    assert await failure(model, [-1.0]) == "plain"


async def test_unlike_the_configuration(serve, capfd):
    """An output of another type is served as it is and one of no name dropped, as by Triton; the log says so."""
    model = await serve(
        """
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                names = "OUTPUT0", "OUPTUT0"
                return [pb_utils.InferenceResponse([pb_utils.Tensor(n, np.zeros(1, np.float64)) for n in names])]
        """
    )
    for _ in range(2):
        response = await model.infer([0.0])
        assert [(output.name, output.datatype) for output in response.outputs] == [("OUTPUT0", "FP64")]
    said = capfd.readouterr().out
    assert said.count("output 'OUTPUT0' is FP64, but the configuration says FP32") == 1
    assert said.count("output 'OUPTUT0' is not in the configuration and was dropped") == 1


async def test_no_memory_for_the_response(serve):
    """A response that cannot be stored is an error, and the next request is served."""
    model = await serve(
        """
        import resource
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                size = int(requests[0].inputs()[0].as_numpy()[0])
                array = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (size,), (0,))
                return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)])]
        """
    )
    assert "MemoryError" in await failure(model, [2.0**46])
    assert (await model.ask([10_000.0])).shape == (10_000,)
