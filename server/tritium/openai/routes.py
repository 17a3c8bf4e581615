"""The routes of the OpenAI port, each once: what serves it, what reads it, what it answers."""

from collections.abc import Sequence

from tritium.openai.adapters import LoadAdapter, UnloadAdapter, load_adapter, unload_adapter
from tritium.openai.cards import ModelReady, list_models, model_ready, one_model
from tritium.openai.chat import chat
from tritium.openai.completions import completions
from tritium.openai.endpoints import Endpoint
from tritium.openai.explain import Explanation, explain
from tritium.openai.fleet_state import FleetCall, FleetState, change_fleet
from tritium.openai.messages.route import count_tokens, messages
from tritium.openai.messages.schema import CountRequest, Message, MessagesRequest, TokenCount
from tritium.openai.options import OpenAIOptions
from tritium.openai.pooling.embeddings import classify, embeddings, pooling
from tritium.openai.pooling.schema import (
    Classifications,
    ClassifyRequest,
    EmbeddingRequest,
    Embeddings,
    PooledList,
    PoolRequestBody,
    Ranking,
    RerankRequest,
    ScoreRequest,
    Scores,
)
from tritium.openai.pooling.scoring import rerank, score
from tritium.openai.responses import ChatCompletion, Completion, ModelCard, ModelList
from tritium.openai.responses_api.route import Responses
from tritium.openai.responses_api.schema import Deleted, ItemList, ResponseObject, ResponsesRequest
from tritium.openai.router_mode import RouterMode, set_router_mode
from tritium.openai.schema import ChatRequest, CompletionRequest
from tritium.openai.status import Health, Liveness, MetricsPage, Version, health, live, metrics_route, show_version
from tritium.openai.tokens import Detokenized, DetokenizeRequest, TokenizeRequest, Tokens, detokenize, tokenize


def endpoints(options: OpenAIOptions, metrics: MetricsPage) -> Sequence[Endpoint]:
    """Return the routes of a server whose metrics a page writes."""
    kept = Responses(options)
    return (
        Endpoint(
            "POST",
            "/v1/chat/completions",
            chat,
            "Answer a conversation",
            ChatCompletion,
            ChatRequest,
            streams=True,
            counted=True,
        ),
        Endpoint(
            "POST",
            "/v1/completions",
            completions,
            "Continue prompts",
            Completion,
            CompletionRequest,
            streams=True,
            counted=True,
        ),
        Endpoint(
            "POST",
            "/v1/messages",
            messages,
            "Answer a conversation, as Anthropic's API does",
            Message,
            MessagesRequest,
            streams=True,
            counted=True,
        ),
        Endpoint(
            "POST",
            "/v1/messages/count_tokens",
            count_tokens,
            "Count the tokens of a conversation, as Anthropic's API does",
            TokenCount,
            CountRequest,
            counted=True,
            brief=True,
        ),
        Endpoint(
            "POST",
            "/v1/responses",
            kept.create,
            "Answer with a response of typed items",
            ResponseObject,
            ResponsesRequest,
            streams=True,
            counted=True,
        ),
        Endpoint("GET", "/v1/responses/{id}", kept.read, "Read a response that is kept", ResponseObject),
        Endpoint("DELETE", "/v1/responses/{id}", kept.delete, "Forget a response", Deleted),
        Endpoint("POST", "/v1/responses/{id}/cancel", kept.cancel, "End a background response", ResponseObject),
        Endpoint("GET", "/v1/responses/{id}/input_items", kept.input_items, "What a response was asked", ItemList),
        Endpoint("POST", "/v1/embeddings", embeddings, "Embed texts", Embeddings, EmbeddingRequest, counted=True),
        *(
            Endpoint("POST", path, rerank, "Order documents by a query", Ranking, RerankRequest, counted=True)
            for path in ("/v1/rerank", "/rerank", "/v2/rerank")
        ),
        *(
            Endpoint("POST", path, score, "Score pairs of texts", Scores, ScoreRequest, counted=True)
            for path in ("/v1/score", "/score")
        ),
        Endpoint("POST", "/classify", classify, "Classify texts", Classifications, ClassifyRequest, counted=True),
        Endpoint("POST", "/pooling", pooling, "Pool texts", PooledList, PoolRequestBody, counted=True),
        Endpoint("GET", "/v1/models", list_models, "List the models", ModelList),
        Endpoint(
            "GET", "/v1/models/{id:path}/ready", model_ready, "Tell whether a model can take requests", ModelReady
        ),
        Endpoint("GET", "/v1/models/{id:path}", one_model, "Describe a model", ModelCard),
        Endpoint("POST", "/v1/load_lora_adapter", load_adapter, "Load a LoRA adapter", body=LoadAdapter, admin=True),
        Endpoint(
            "POST", "/v1/unload_lora_adapter", unload_adapter, "Unload a LoRA adapter", body=UnloadAdapter, admin=True
        ),
        Endpoint(
            "POST",
            "/tokenize",
            tokenize,
            "Turn text or a conversation into token ids",
            Tokens,
            TokenizeRequest,
            counted=True,
            brief=True,
        ),
        Endpoint(
            "POST",
            "/detokenize",
            detokenize,
            "Turn token ids into text",
            Detokenized,
            DetokenizeRequest,
            counted=True,
            brief=True,
        ),
        Endpoint(
            "POST",
            "/router/explain",
            explain,
            "Tell where a request would go, and why",
            Explanation,
            (ChatRequest, CompletionRequest),
            counted=True,
            brief=True,
        ),
        Endpoint(
            "POST",
            "/router/mode",
            set_router_mode,
            "Choose workers by another mode",
            RouterMode,
            RouterMode,
            admin=True,
        ),
        Endpoint(
            "POST",
            "/fleet",
            change_fleet,
            "Tell how a model's fleet stands, and change roles and thresholds",
            FleetState,
            FleetCall,
            admin=True,
        ),
        Endpoint("GET", "/health", health, "Tell whether every model can take requests", Health, open=True),
        Endpoint("GET", "/health/ready", health, "Tell whether every model can take requests", Health, open=True),
        Endpoint("GET", "/health/live", live, "Tell whether the server answers", Liveness, open=True),
        Endpoint("GET", "/ping", live, "Tell whether the server answers", Liveness, open=True),
        Endpoint("GET", "/version", show_version, "Tell the server's release", Version),
        Endpoint("GET", "/metrics", metrics_route(metrics), "All metrics, as Prometheus reads them"),
    )
