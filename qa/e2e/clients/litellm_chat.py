"""LiteLLM as a client of an OpenAI-compatible server: chats whole and streamed, a completion, an error."""

import asyncio
import json
import sys

import litellm

url, model = sys.argv[1:]
litellm.telemetry = False
common = {"model": f"openai/{model}", "api_base": url, "api_key": "none", "temperature": 0, "max_tokens": 24}
messages = [{"role": "user", "content": "What is a model repository?"}]
whole = litellm.completion(messages=messages, **common)
chunks = list(litellm.completion(messages=messages, stream=True, **common))
text = litellm.text_completion(
    prompt="A model", model=f"text-completion-openai/{model}", api_base=url, api_key="none", max_tokens=4
)


async def asked() -> str:
    """Return the answer of the asynchronous client."""
    return (await litellm.acompletion(messages=messages, **common)).choices[0].message.content


try:
    litellm.completion(messages=messages, **common | {"model": "openai/no_such"}, num_retries=0)
    refused = ""
except litellm.NotFoundError as error:
    refused = str(error)
print(
    json.dumps(
        {
            "whole": whole.choices[0].message.content,
            "tokens": whole.usage.completion_tokens,
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
            "text": text.choices[0].text,
            "asynchronous": asyncio.run(asked()),
            "refused": refused,
        }
    )
)
