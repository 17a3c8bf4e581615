"""What a language request can be refused for, beyond the common tree.

InvalidArgument
|-- FieldRefused       one field of the request, named, is at fault
`-- ContextExceeded    the prompt and the tokens asked for do not fit the model's context
"""

from tritium.core.errors import InvalidArgument


class FieldRefused(InvalidArgument):
    """One field of the request is at fault; `field` is its name as the client wrote it."""

    def __init__(self, field: str, message: str, hint: str = "", code: str | None = None) -> None:
        super().__init__(message, hint)
        self.field = field
        self.code = code


class ContextExceeded(InvalidArgument):
    """The request does not fit the model's context; `field` is what holds the prompt."""

    def __init__(
        self, field: str, context_tokens: int, prompt_tokens: int, max_tokens: int, *, at_least: bool = False
    ) -> None:
        asked = f"{prompt_tokens} in the prompt, {max_tokens} for the completion" if max_tokens else "all in the prompt"
        total = f"at least {prompt_tokens}" if at_least else prompt_tokens + max_tokens
        super().__init__(
            f"This model's maximum context length is {context_tokens} tokens, but {total} were requested ({asked}).",
            hint="shorten the prompt or ask for fewer tokens",
        )
        self.field = field
