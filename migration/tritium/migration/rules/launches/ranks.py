"""The rule of TensorRT-LLM's launcher."""

from collections.abc import Iterator

from tritium.migration.deployment import Deployment
from tritium.migration.finding import Finding, Severity
from tritium.migration.rules.rule import Rule


class Ranks(Rule):
    """TensorRT-LLM's launcher starts one tritonserver a rank under MPI: one server takes its place.

    `launch_triton_server.py --world_size N` runs `mpirun -n N tritonserver ...`. Here one `tritonserver` serves the
    repository, and the workers of the language model get the GPUs: N becomes `tensor_parallel_size` (times
    `pipeline_parallel_size`) in the model's `model.json`. MPI, ranks and shared-memory prefixes go away.

    Before start.sh:

        python3 /tensorrtllm_backend/scripts/launch_triton_server.py --world_size=4 --model_repo=/models

    Finds: starts 4 ranks of TensorRT-LLM under MPI
    """

    id = "L05"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every start of ranks."""
        for launch, command in deployment.commands():
            if command.launches_ranks:
                size = command.value("world-size")
                ranks = f"{size} ranks" if size.isdigit() else "ranks"
                advice = "start tritonserver --model-repository=...; the GPUs of a model go into model.json"
                if size.isdigit() and size != "1":
                    advice += f" (tensor_parallel_size {size})"
                span = command.program.span(launch.source)
                yield self.at(launch.source, span, f"starts {ranks} of TensorRT-LLM under MPI", advice)
