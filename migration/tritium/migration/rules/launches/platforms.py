"""Rules of platforms that start Triton themselves."""

from collections.abc import Iterator
from typing import ClassVar

from tritium.migration.deployment import Deployment, Hosted, Platform
from tritium.migration.finding import Finding, Severity
from tritium.migration.launches.format import Format
from tritium.migration.launches.image import Role
from tritium.migration.rules.rule import Rule


class Hosting(Rule):
    """What a platform runs Triton for: the platform's own description changes, not the models."""

    platform: ClassVar[Platform]
    said: ClassVar[str]
    advice: ClassVar[str]
    stays: ClassVar[str] = ""
    """Where what is hosted begins so, only its server changes, which is described elsewhere; nothing is to do here."""

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find everything that the platform hosts."""
        for host in deployment.hosted:
            if host.platform is not self.platform:
                continue
            if self.stays and host.what.startswith(self.stays):
                message = f"{host.what}: it stays, on the server that is changed"
                yield self.at(host.source, host.span, message, severity=Severity.INFO)
            elif _names_image(deployment, host):
                message = f"{host.what}: the image that is named in it is replaced (L01)"
                yield self.at(host.source, host.span, message, severity=Severity.INFO)
            else:
                yield self.at(host.source, host.span, f"{host.what}: {self.said}", self.advice)


def _names_image(deployment: Deployment, host: Hosted) -> bool:
    """Tell whether what a platform starts is an image that is named in the same file, and replaced there."""
    if host.platform not in (Platform.KSERVE, Platform.VERTEX) or host.what.startswith("InferenceService"):
        return False
    servers = (Role.SERVER, Role.CUSTOM)
    return any(
        launch.source is host.source
        and launch.format not in _READ_ONLY
        and any(i.role in servers for i in launch.images)
        for launch in deployment.launches
    )


_READ_ONLY = (Format.NOTEBOOK, Format.DOCUMENT)


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
    stays = "TrainedModel"
    said = "KServe starts Triton's image itself"
    advice = "add a ServingRuntime with Tritium's image and name it in spec.predictor.model.runtime"


class Seldon(Hosting):
    """Seldon starts Triton: by `implementation: TRITON_SERVER` (v1), or as a Server that models ask for (v2).

    For version 2 the Server gains a `podSpec` whose container `triton` has Tritium's image (or that container's image
    is replaced, in a ServerConfig too); capabilities and models stay. For version 1 `componentSpecs` name the container
    of the graph's node, whose image goes before Seldon's own; Seldon starts `/opt/tritonserver/bin/tritonserver` in it,
    which is there. The cluster must be able to pull the image, so this is made for who asks: `--unsafe L16`.

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
    stays = "Model "
    said = "Seldon starts Triton's image itself"
    advice = "name Tritium's image for its container; its capabilities and the models stay"


class SageMaker(Hosting):
    """SageMaker starts its own build of Triton.

    An endpoint takes any image that answers `/ping` and `/invocations` on port 8080, as `tritonserver
    --allow-sagemaker=true` does here. `plan --unsafe L17` writes `tritium-sagemaker.Dockerfile`, whose entry point
    takes SageMaker's word `serve`, one model or many; build it and push it to ECR. Its address there is a question of
    the plan; where it is answered, it stands in place of `.../sagemaker-tritonserver:TAG` in scripts, Terraform and
    templates. In notebooks, and where `image_uris.retrieve` makes the address, write it yourself. The variables
    `SAGEMAKER_TRITON_DEFAULT_MODEL_NAME`, `_INFERENCE_TYPE`, `_PING_MODE` and `_ADDITIONAL_ARGS` and the layout below
    `/opt/ml/model` stay.

    Before deploy.py:

        triton_image_uri = f"{account}.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:23.07-py3"

    Finds: endpoint
    """

    id = "L17"
    severity = Severity.TODO
    platform = Platform.SAGEMAKER
    said = "SageMaker's own image of Triton is named"
    advice = (
        "build tritium-sagemaker.Dockerfile (plan --unsafe L17), push it to ECR, and answer its address or name it here"
    )


class AzureMl(Hosting):
    """Azure ML deploys a model of the type `triton_model` without a container of one's own.

    The platform decides which server runs there. With Tritium the deployment brings its own container: an environment
    with Tritium's image and an `inference_config` of the routes `/v2/health/live`, `/v2/health/ready` and `/`, and the
    model is of the type `custom_model`. Where a deployment's file describes its model, `plan --unsafe L18` writes that
    and the environment's Dockerfile. A model that is registered by itself is registered again as `custom_model`, and
    its deployment given the same; in Python, `Model(type=AssetTypes.CUSTOM_MODEL)` and `Environment(build=...,
    inference_config=...)`.

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
    advice = (
        "register it as custom_model, and give its deployment an environment with Tritium's image and its health routes"
    )


class VertexAi(Hosting):
    """Vertex AI runs Triton's image as a custom container.

    Upload the model with Tritium's image instead; `--allow-vertex-ai`, `--vertex-ai-default-model` and the `AIP_*`
    variables mean the same.

    Before upload.sh:

        gcloud ai models upload --container-image-uri=nvcr.io/nvidia/tritonserver:22.05-py3 --display-name=m

    Finds: the image that is named in it is replaced
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
