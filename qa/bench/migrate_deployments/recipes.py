"""Which deployments of a corpus are moved, and how what their repositories lack is stood in for.

A recipe names the folder in the corpus, the model repository in it and the models that can run on a machine without
GPUs. `code` names files of the original repository that a corpus of data files leaves out; they are read from a
clone, where TRITIUM_SOURCES has one, and stand-ins of the same tensors are made where it does not.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Recipe:
    """One deployment: what of it is served, and where its models' files come from."""

    deployment: str
    kind: str
    repository: str
    """The model repository, from the deployment's folder."""
    models: tuple[str, ...]
    code: dict[str, str] = field(default_factory=dict)
    """By model the file of the original repository that is its version 1."""
    placed: dict[str, str] = field(default_factory=dict)
    """By model its configuration in the corpus, where the deployment's own instructions copy it into a repository."""
    left_out: str = ""
    """What of the deployment is not served here, and why."""


_EXAMPLES = "docs/examples/model_repository"
_BLS = "examples"

RECIPES = (
    Recipe(
        "bls-official-python",
        "python, BLS, decoupled",
        "models",
        ("square_int32", "repeat_int32", "bls_decoupled_sync", "bls_decoupled_async", "custom_metrics"),
        code={
            "square_int32": f"{_BLS}/decoupled/square_model.py",
            "repeat_int32": f"{_BLS}/decoupled/repeat_model.py",
            "bls_decoupled_sync": f"{_BLS}/bls_decoupled/sync_model.py",
            "bls_decoupled_async": f"{_BLS}/bls_decoupled/async_model.py",
            "custom_metrics": f"{_BLS}/custom_metrics/model.py",
        },
        placed={
            "square_int32": f"{_BLS}/decoupled/square_config.pbtxt",
            "repeat_int32": f"{_BLS}/decoupled/repeat_config.pbtxt",
            "bls_decoupled_sync": f"{_BLS}/bls_decoupled/sync_config.pbtxt",
            "bls_decoupled_async": f"{_BLS}/bls_decoupled/async_config.pbtxt",
            "custom_metrics": f"{_BLS}/custom_metrics/config.pbtxt",
        },
        left_out="bls_sync, bls_async: they call a model of PyTorch's hub; instance_kind: the same",
    ),
    Recipe(
        "vis-official-examples",
        "onnx, sequences, strings",
        _EXAMPLES,
        ("simple", "simple_int8", "simple_string", "simple_identity", "simple_sequence", "simple_dyna_sequence"),
        code={
            "simple_identity": f"{_EXAMPLES}/simple_identity/1/model.py",
            **{
                name: f"{_EXAMPLES}/{name}/1/model.onnx"
                for name in ("simple", "simple_int8", "simple_string", "simple_sequence", "simple_dyna_sequence")
            },
        },
        left_out="densenet_onnx, inception_onnx: their weights are 40 and 90 MB of downloads",
    ),
    Recipe(
        "vis-kulikrch",
        "onnx, TorchScript, compose",
        "triton/model_repository",
        ("cifar10_onnx", "cifar10_onnx_optimized", "cifar10_pytorch"),
        code={
            "cifar10_onnx": "triton/model_repository/cifar10_onnx/1/model.onnx",
            "cifar10_onnx_optimized": "triton/model_repository/cifar10_onnx_optimized/1/model.onnx",
            "cifar10_pytorch": "triton/model_repository/cifar10_pytorch/1/model.pt",
        },
    ),
    Recipe(
        "ens-sentence-transformers",
        "ensemble, python, onnx",
        "model_repository",
        ("ensemble_model", "tokenizer", "model"),
    ),
    Recipe(
        "ens-terbouche-mlops",
        "ensembles, python, TorchScript, compose",
        "model_repository",
        (
            "text_ensemble", "preprocess", "torch_classifier", "postprocess", "sentiment", "linear_regression_model",
            "resnet_ensemble", "resnet_preprocessor", "resnet_model", "resnet_postprocessor",
        ),
        code={
            "postprocess": "model_repository/postprocess/1/model.py",
            "resnet_postprocessor": "model_repository/resnet_postprocessor/1/model.py",
        },
    ),
    Recipe(
        "k8s-cristian",
        "onnx, Kubernetes",
        "triton/models",
        ("model1",),
        left_out="model2, model3: their configurations name model1, so that Triton refuses them; model1's own file, "
        "whose tensors are called otherwise than its configuration says",
    ),
    Recipe(
        "custom-backend-examples",
        "python and onnx of a custom backend's BLS",
        "examples/model_repos/bls_models",
        ("addsub_python", "addsub_onnx"),
        code={
            "addsub_python": "examples/model_repos/bls_models/addsub_python/1/model.py",
            "addsub_onnx": "examples/model_repos/bls_models/addsub_onnx/1/model.onnx",
        },
        left_out="bls_fp32: it wants a backend in C++",
    ),
    Recipe("asr-bambara", "python, speech", "triton/model_repository", ("transcription", "translation", "tts")),
    Recipe(
        "vllm-compose-grafana-mrtsstlrs",
        "vllm, compose, dashboards",
        "model_repository",
        ("vllm_model",),
        left_out="python_model: its configuration is empty, and it answers no request",
    ),
    Recipe("vllm-official-sample", "vllm", "samples/model_repository", ("vllm_model",)),
)  # fmt: skip
