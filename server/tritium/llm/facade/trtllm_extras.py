"""What TensorRT-LLM's models return beside text or tokens: scores, places in the batch, counts, times and blocks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tritium.core.tensor import Tensor
from tritium.llm.facade import outputs
from tritium.llm.facade.run import Completion, Run
from tritium.llm.facade.trtllm import Rows
from tritium.llm.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Extras:
    """What is returned beside text or tokens, alike for all prompts of a request; `answers` is how many there are."""

    prompts: int
    answers: int
    log_probs: bool
    perf_metrics: bool
    input_tokens: bool
    output_tokens: bool

    @classmethod
    def of(cls, rows: Rows, samplings: Sequence[Sampling]) -> "Extras":
        """Read them of the first prompt."""
        return cls(
            prompts=rows.count,
            answers=max(sampling.n for sampling in samplings),
            log_probs=bool(rows.scalar("return_log_probs", 0)),
            perf_metrics=bool(rows.scalar("return_perf_metrics", 0) or rows.scalar("return_kv_cache_reuse_stats", 0)),
            input_tokens=bool(rows.scalar("return_num_input_tokens", 0)),
            output_tokens=bool(rows.scalar("return_num_output_tokens", 0)),
        )

    def tensors(self, one: Completion, run: Run, block_tokens: int) -> list[Tensor]:
        """Return them for one answer; of a stream, too, scores and counts are those of all its tokens so far."""
        made: list[Tensor] = []
        if self.log_probs:
            made.append(outputs.floats("cum_log_probs", [[one.cumulative_logprob]]))
            made.append(outputs.floats("output_log_probs", [[one.log_probs]]))
        if self.prompts > 1:
            made.append(outputs.integers("batch_index", [[one.ask_index]]))
        if self.answers > 1:
            made.append(outputs.integers("sequence_index", [[one.index]]))
        if self.perf_metrics:
            made += performance(one, run, block_tokens)
        if self.input_tokens:
            made.append(outputs.integers("num_input_tokens", [[one.prompt_tokens]]))
        if self.output_tokens:
            made.append(outputs.integers("num_output_tokens", [[one.tokens]]))
        return made


def performance(one: Completion, run: Run, block_tokens: int) -> list[Tensor]:
    """Return what the front knows of an answer's blocks and times; nothing is drafted, so nothing was accepted."""
    blocks = -(-(one.prompt_tokens + one.tokens) // max(1, block_tokens))
    reused = one.cached_tokens // max(1, block_tokens)
    # The names say time points; TensorRT-LLM's clock is steady and begins anywhere.
    now_ns = time.monotonic_ns()
    return [
        outputs.integers("kv_cache_alloc_new_blocks", [[blocks - reused]]),
        outputs.integers("kv_cache_reused_blocks", [[reused]]),
        outputs.integers("kv_cache_alloc_total_blocks", [[blocks]]),
        outputs.integers("arrival_time_ns", [[run.arrived_ns]], "INT64"),
        outputs.integers("first_scheduled_time_ns", [[one.started_ns]], "INT64"),
        outputs.integers("first_token_time_ns", [[one.first_token_ns or now_ns]], "INT64"),
        outputs.integers("last_token_time_ns", [[one.last_token_ns or now_ns]], "INT64"),
        outputs.floats("acceptance_rate", [[0.0]]),
        outputs.integers("total_accepted_draft_tokens", [[0]]),
        outputs.integers("total_draft_tokens", [[0]]),
    ]
