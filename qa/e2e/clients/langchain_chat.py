"""LangChain's OpenAI client: a chat whole, streamed, batched and asynchronous, and a structured answer."""

import asyncio
import json
import sys
from typing import Literal

from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Verdict(BaseModel):
    """What the model is made to say."""

    good: bool
    grade: Literal["low", "high"]


url, model = sys.argv[1:]
chat = ChatOpenAI(base_url=url, api_key="none", model=model, temperature=0, max_tokens=24)
question = "What is a model repository?"
whole = chat.invoke(question)
chunks = list(chat.stream(question, stream_usage=True))
batch = chat.batch([question, question])


async def streamed() -> str:
    """Return the answer as it came piece by piece."""
    return "".join([chunk.content async for chunk in chat.astream(question)])


verdict = chat.with_structured_output(Verdict, method="json_schema").invoke("Judge this.", max_tokens=200)
print(
    json.dumps(
        {
            "whole": whole.content,
            "tokens": whole.usage_metadata["output_tokens"],
            "streamed": "".join(chunk.content for chunk in chunks),
            "stream_tokens": sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks),
            "batch": [answer.content for answer in batch],
            "asynchronous": asyncio.run(streamed()),
            "verdict": verdict.model_dump(),
        }
    )
)
