"""The forward pass of a Llama-type model over paged keys and values.

A batch is flat: the tokens of all sequences one after another, those that decode (one token each) first. Matrix
products run over all of them at once; attention runs in one go for the decoding ones, one by one for prompts.
Three things are folded into the weights at load, so that a step need not do them: the norms' weights, the scale of
the queries, and an order of each head in which a rotary pair is one complex number.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tritium.backends.embedded.architecture import Architecture
from tritium.backends.embedded.weights import Floats, Weights

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DecodeGroup:
    """Rows `first..last` decode one token each; `tables` (rows, blocks) names the blocks that hold their context.

    `bias` (rows, blocks * block_tokens) is 0 where a row may look and -inf beyond its context.
    """

    first: int
    last: int
    tables: Integers
    bias: Floats


@dataclass(frozen=True, slots=True)
class PromptChunk:
    """Rows `first..last` are consecutive tokens of one prompt, from position `start`; `table` as above."""

    first: int
    last: int
    start: int
    table: Integers


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: for each row its token, its position and the block and offset its key and value go to."""

    tokens: Integers
    positions: Integers
    blocks: Integers
    offsets: Integers
    decodes: list[DecodeGroup]
    prompts: list[PromptChunk]
    logit_rows: Integers


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: Floats
    qkv_bias: Floats | None
    query_norm: Floats | None
    key_norm: Floats | None
    out: Floats
    gate_up: Floats
    down: Floats


class Model:
    """A model ready to run on `cache`, shape (layers, 2, blocks, block_tokens, kv_heads, head_width)."""

    def __init__(self, architecture: Architecture, weights: Weights, cache: Floats, context: int) -> None:
        a = self.architecture = architecture
        self.cache = cache
        self._scratch = np.empty(0, np.float32)
        self._group = a.heads // a.kv_heads
        self._query_width = a.heads * a.head_width
        self._rotated_heads = a.heads + a.kv_heads
        # The two halves of a head are its pairs' parts; side by side they are complex numbers.
        self._pairs = np.arange(a.head_width).reshape(2, -1).T.ravel()
        angles = np.outer(np.arange(context, dtype=np.float32), a.rope.frequencies(a.head_width))
        self._rotation = np.exp(1j * angles.astype(np.float32)).astype(np.complex64)[:, None, :]
        self._embedding = weights.take("model.embed_tokens.weight", a.vocabulary, a.width)
        self._layers = [self._take_layer(weights, f"model.layers.{index}.") for index in range(a.layers)]
        norm = weights.take("model.norm.weight", a.width)
        if a.tied:
            weights.drop("lm_head.weight")
            head = self._embedding
        else:
            head = weights.take("lm_head.weight", a.vocabulary, a.width)
        self._head = _matrix(head * norm)
        weights.check_all_taken()

    def _take_layer(self, weights: Weights, at: str) -> _Layer:
        a = self.architecture
        key_width = a.kv_heads * a.head_width
        before = weights.take(f"{at}input_layernorm.weight", a.width)
        after = weights.take(f"{at}post_attention_layernorm.weight", a.width)
        parts = {"q_proj": self._query_width, "k_proj": key_width, "v_proj": key_width}
        matrices = {name: weights.take(f"{at}self_attn.{name}.weight", size, a.width) for name, size in parts.items()}
        biases = {
            name: weights.take(f"{at}self_attn.{name}.bias", size)
            for name, size in parts.items()
            if f"{at}self_attn.{name}.bias" in weights
        }
        scale = np.float32(a.head_width**-0.5)
        query_norm = key_norm = None
        if f"{at}self_attn.q_norm.weight" in weights:
            query_norm = weights.take(f"{at}self_attn.q_norm.weight", a.head_width)[self._pairs] * scale
            key_norm = weights.take(f"{at}self_attn.k_norm.weight", a.head_width)[self._pairs]
        else:
            matrices["q_proj"] = matrices["q_proj"] * scale
            if biases:
                biases["q_proj"] = biases["q_proj"] * scale
        for values in (matrices, biases):
            for name in ("q_proj", "k_proj"):
                if name in values:
                    heads = values[name].reshape(-1, a.head_width, *values[name].shape[1:])
                    values[name] = heads[:, self._pairs].reshape(values[name].shape)
        mlp = [weights.take(f"{at}mlp.{name}.weight", a.mlp_width, a.width) for name in ("gate_proj", "up_proj")]
        return _Layer(
            qkv=_matrix(np.concatenate(list(matrices.values())) * before),
            qkv_bias=np.concatenate(list(biases.values())) if biases else None,
            query_norm=query_norm,
            key_norm=key_norm,
            out=_matrix(weights.take(f"{at}self_attn.o_proj.weight", a.width, self._query_width)),
            gate_up=_matrix(np.concatenate(mlp) * after),
            down=_matrix(weights.take(f"{at}mlp.down_proj.weight", a.width, a.mlp_width)),
        )

    def forward(self, batch: Batch) -> Floats:
        """Compute a step, write its keys and values, and return logits (logit rows, vocabulary)."""
        a = self.architecture
        rows = len(batch.tokens)
        x = self._embedding[batch.tokens]
        rotation = self._rotation[batch.positions]
        mixed = np.empty((rows, self._query_width), np.float32)
        with np.errstate(over="ignore"):  # exp(-x) of a very negative gate is inf, and the gate then 0
            for layer, cache in zip(self._layers, self.cache, strict=True):
                qkv = self._normed(x) @ layer.qkv
                if layer.qkv_bias is not None:
                    qkv += layer.qkv_bias
                heads = qkv.reshape(rows, -1, a.head_width)
                self._rotate(heads, layer, rotation)
                cache[:, batch.blocks, batch.offsets] = (
                    heads[:, a.heads :].reshape(rows, 2, a.kv_heads, a.head_width).swapaxes(0, 1)
                )
                for group in batch.decodes:
                    self._attend_decodes(heads, cache, group, mixed)
                for chunk in batch.prompts:
                    self._attend_prompt(heads, cache, chunk, mixed)
                x += mixed @ layer.out
                gate_up = self._normed(x) @ layer.gate_up
                gate, up = gate_up[:, : a.mlp_width], gate_up[:, a.mlp_width :]
                up *= gate
                up /= np.exp(-gate) + np.float32(1)
                x += up @ layer.down
        return self._normed(x[batch.logit_rows]) @ self._head

    def _normed(self, x: Floats) -> Floats:
        """Return `x` scaled to a root mean square of one; the norm's weight is in the next matrix."""
        mean = np.add.reduce(x * x, axis=-1, keepdims=True)
        mean /= np.float32(x.shape[-1])
        mean += np.float32(self.architecture.norm_epsilon)
        scaled: Floats = x / np.sqrt(mean)
        return scaled

    def _rotate(self, heads: Floats, layer: _Layer, rotation: npt.NDArray[np.complex64]) -> None:
        rotated = heads[:, : self._rotated_heads]
        if layer.query_norm is not None and layer.key_norm is not None:
            rotated[:] = self._normed(rotated)
            rotated[:, : self.architecture.heads] *= layer.query_norm
            rotated[:, self.architecture.heads :] *= layer.key_norm
        pairs = rotated.view(np.complex64)
        np.multiply(pairs, rotation, out=pairs)

    def _gather(self, cache: Floats, tables: Integers) -> Floats:
        """Bring the blocks of each row together, as (2, rows, context, kv_heads, head_width) valid until the next call.

        The memory is kept: taking and giving back some megabytes a layer would cost a page fault for every 4 KiB.
        """
        shape = (2, *tables.shape, *cache.shape[2:])
        size = math.prod(shape)
        if size > self._scratch.size:
            self._scratch = np.empty(size, np.float32)
        gathered = self._scratch[:size].reshape(shape)
        for part, out in zip(cache, gathered, strict=True):
            np.take(part, tables, axis=0, out=out, mode="clip")  # other modes copy once more
        return gathered.reshape(2, len(tables), -1, *cache.shape[3:])

    def _attend_decodes(self, heads: Floats, cache: Floats, group: DecodeGroup, mixed: Floats) -> None:
        a = self.architecture
        count = group.last - group.first
        keys, values = (part.swapaxes(1, 2) for part in self._gather(cache, group.tables))
        queries = heads[group.first : group.last, : a.heads].reshape(count, a.kv_heads, self._group, a.head_width)
        scores = queries @ keys.swapaxes(2, 3)
        scores += group.bias[:, None, None, :]
        result = _softmax_product(scores, values)
        mixed[group.first : group.last] = result.reshape(count, -1)

    def _attend_prompt(self, heads: Floats, cache: Floats, chunk: PromptChunk, mixed: Floats) -> None:
        a = self.architecture
        count = chunk.last - chunk.first
        end = chunk.start + count
        keys, values = (part[0, :end].swapaxes(0, 1) for part in self._gather(cache, chunk.table[None]))
        queries = heads[chunk.first : chunk.last, : a.heads].reshape(count, a.kv_heads, self._group, a.head_width)
        # (kv_heads, group * rows, head_width): one matrix product a key head
        flat = queries.transpose(1, 2, 0, 3).reshape(a.kv_heads, -1, a.head_width)
        scores = (flat @ keys.swapaxes(1, 2)).reshape(a.kv_heads, self._group, count, end)
        ahead = np.arange(end) > np.arange(chunk.start, end)[:, None]
        scores[:, :, ahead] = -np.inf
        result = _softmax_product(scores.reshape(a.kv_heads, -1, end), values)
        result = result.reshape(a.kv_heads, self._group, count, a.head_width).transpose(2, 0, 1, 3)
        mixed[chunk.first : chunk.last] = result.reshape(count, -1)


def _softmax_product(scores: Floats, values: Floats) -> Floats:
    """Return softmax(scores) @ values; `scores` is used up."""
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    result: Floats = scores @ values
    result /= np.add.reduce(scores, axis=-1, keepdims=True)
    return result


def _matrix(stored: Floats) -> Floats:
    """Turn a stored (out, in) matrix into the contiguous (in, out) one that rows are multiplied with."""
    return np.ascontiguousarray(stored.T)
