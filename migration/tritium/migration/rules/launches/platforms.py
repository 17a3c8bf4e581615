"""Rules of platforms that start Triton themselves."""

from collections.abc import Iterator
from typing import ClassVar

from tritium.migration.deployment import Deployment, Platform
from tritium.migration.finding import Finding, Severity
from tritium.migration.rules.rule import Rule


class Hosting(Rule):
    """What a platform runs Triton for: the platform's own description changes, not the models."""

    platform: ClassVar[Platform]
    said: ClassVar[str]
    advice: ClassVar[str]

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find everything that the platform hosts."""
        for host in deployment.hosted:
            if host.platform is self.platform:
                yield self.at(host.source, host.span, f"{host.what}: {self.said}", self.advice)


class KServe(Hosting):
    """KServe starts Triton from a serving runtime of its own.

    A new ServingRuntime with Tritium's image stands beside the old one; the InferenceService names it in
    `spec.predictor.model.runtime`. The legacy form `predictor.triton` becomes `predictor.model` with
    `modelFormat: {name: triton}`. Paths, ports (8080, 9000) and the storage initializer stay.

    Before isvc.yaml:

        apiVersion: serving.kserve.io/v1beta1
        kind: InferenceService
        metadata:
          name: bert
        spec:
          predictor:
            triton:
              storageUri: gs://models/bert
              runtimeVersion: 20.10-py3

    Finds: InferenceService bert: KServe starts Triton's image itself
    """

    id = "L15"
    severity = Severity.TODO
    platform = Platform.KSERVE
    said = "KServe starts Triton's image itself"
    advice = "add a ServingRuntime with Tritium's image and name it in spec.predictor.model.runtime"


class Seldon(Hosting):
    """Seldon starts Triton: by `implementation: TRITON_SERVER` (v1), or as a Server that models ask for (v2).

    For version 2 a Server with Tritium's image takes the capabilities of the old one; models stay as they are. For
    version 1 the predictor becomes one with a container of its own.

    Before model.yaml:

        apiVersion: mlops.seldon.io/v1alpha1
        kind: Server
        metadata:
          name: triton
        spec:
          serverConfig: triton

    Finds: Server triton
    """

    id = "L16"
    severity = Severity.TODO
    platform = Platform.SELDON
    said = "Seldon starts Triton's image itself"
    advice = "give the server's configuration Tritium's image; its capabilities and the models stay"


class SageMaker(Hosting):
    """SageMaker starts its own build of Triton.

    An endpoint takes any image that answers `/ping` and `/invocations` on port 8080, as `tritonserver
    --allow-sagemaker=true` does here. Push Tritium's image to ECR, and name it where `sagemaker-tritonserver` stands;
    `SAGEMAKER_TRITON_*` and the layout below `/opt/ml/model` stay.

    Before deploy.py:

        triton_image_uri = f"{account}.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:23.07-py3"

    Finds: endpoint
    """

    id = "L17"
    severity = Severity.TODO
    platform = Platform.SAGEMAKER
    said = "SageMaker's own image of Triton is named"
    advice = "push Tritium's image to ECR and name it here; it serves /ping and /invocations (--allow-sagemaker=true)"


class AzureMl(Hosting):
    """Azure ML deploys a model of the type `triton_model` without a container of one's own.

    The platform decides which server runs there. With Tritium the deployment brings its own container: an environment
    with Tritium's image and an `inference_config` of the routes `/v2/health/live`, `/v2/health/ready` and `/`.

    Before deployment.yml:

        name: densenet
        type: triton_model
        path: ./models

    Finds: model densenet
    """

    id = "L18"
    severity = Severity.TODO
    platform = Platform.AZUREML
    said = "Azure ML chooses the server itself for this type"
    advice = "deploy a custom container: an environment with Tritium's image, and its health routes"


class VertexAi(Hosting):
    """Vertex AI runs Triton's image as a custom container.

    Upload the model with Tritium's image instead; `--allow-vertex-ai`, `--vertex-ai-default-model` and the `AIP_*`
    variables mean the same.

    Before upload.sh:

        gcloud ai models upload --container-image-uri=nvcr.io/nvidia/tritonserver:22.05-py3 --display-name=m

    Finds: Vertex AI
    """

    id = "L19"
    severity = Severity.TODO
    platform = Platform.VERTEX
    said = "Vertex AI runs the image that was uploaded with the model"
    advice = "push Tritium's image and upload the model with it; AIP_* and --vertex-ai-default-model stay"


class PyTriton(Hosting):
    """PyTriton starts Triton from a Python program, with functions as models.

    There is no repository to serve. The functions become python models, or stay with PyTriton; nothing is changed.

    Before server.py:

        from pytriton.triton import Triton

    Finds: PyTriton
    """

    id = "L20"
    severity = Severity.BLOCKER
    platform = Platform.PYTRITON
    said = "PyTriton binds Python functions to Triton inside the program"
    advice = "make python models of the functions (docs/python-backend.md), or leave it as it is"


class InProcess(Hosting):
    """A program runs Triton in its own process, by its Python or C API.

    Tritium has a Python API of its own (`tritium.api`) that serves inside a program; programs in C, ROS and Jetson's
    pipelines stay with Triton.

    Before serve.py:

        import tritonserver

        server = tritonserver.Server(model_repository="/models")

    Finds: runs the server in its own process
    """

    id = "L21"
    severity = Severity.BLOCKER
    platform = Platform.IN_PROCESS
    said = "runs the server in its own process"
    advice = "use tritium.api (docs/python-api.md), or serve the repository beside the program"


RULES = (KServe, Seldon, SageMaker, AzureMl, VertexAi, PyTriton, InProcess)
