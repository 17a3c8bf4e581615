"""Rules of a model's configuration and folder, whose findings are made while the server's own checks read them."""

from tritium.migration.finding import Severity
from tritium.migration.rules.rule import Observed


class Placeholder(Observed):
    """A value of the configuration is filled in at deployment time.

    Templates (`${max_batch_size}`, `@NAME@`, `{{ name }}`, a bare word in capitals) are judged by what they say. The
    script that fills them in stays as it is; audit the filled-in repository to be certain. Within a string parameter
    of TensorRT-LLM a placeholder that is left means "not set", and is not reported.

    Before models/tts/config.pbtxt:

        backend: "python"
        max_batch_size: ${max_batch_size}

    Finds: ${max_batch_size} is filled in at deployment time
    """

    id = "M04"
    severity = Severity.TODO


class EnsembleSteps(Observed):
    """An ensemble and the models it is made of do not fit together, or one of them is not served.

    Every step must name a model of the repository, with tensors of the same names, datatypes and shapes, and a batch
    size that covers the ensemble's. Triton refuses the others as well. An ensemble fares like the worst of its steps.

    Before models/all/config.pbtxt:

        platform: "ensemble"
        input [ { name: "A" data_type: TYPE_FP32 dims: [ 1 ] } ]
        output [ { name: "B" data_type: TYPE_FP32 dims: [ 1 ] } ]
        ensemble_scheduling {
          step [ { model_name: "gone" model_version: -1 input_map { key: "A" value: "A" }
                   output_map { key: "B" value: "B" } } ]
        }

    Finds: step 'gone' is no model of this repository
    """

    id = "M08"
    severity = Severity.BLOCKER


class Refused(Observed):
    """A configuration that Triton refuses, or that cannot be read at all.

    The rules are those by which the server loads a model; the message is Triton's own. The model did not load before
    the move either.

    Before models/resnet/config.pbtxt:

        backend: "onnxruntime"
        max_batch_sise: 8

    Finds: max_batch_sise
    """

    id = "M20"
    severity = Severity.BLOCKER


class OtherName(Observed):
    """A model is named otherwise than its folder.

    Triton refuses that for a model of a repository. A sample that lies by itself is probably copied into a folder of
    the right name.

    Before models/resnet/config.pbtxt:

        name: "resnet50"
        backend: "onnxruntime"

    Finds: the model is named 'resnet50' in a folder named 'resnet'
    """

    id = "M21"
    severity = Severity.BLOCKER


class AbsentFiles(Observed):
    """The model's files are not here.

    Weights are usually kept out of version control, so this is no mistake: the model is judged by its configuration.
    Audit the repository that is deployed to have its files checked too.

    Before models/resnet/config.pbtxt:

        backend: "onnxruntime"

    Finds: the model's files are not here
    """

    id = "M22"
    severity = Severity.INFO


class Unserved(Observed):
    """A field of the configuration that is read and not served.

    Most have no effect worth a word; one that changes what the model does stops it from being loaded rather than
    being passed over.

    Before models/resnet/config.pbtxt:

        backend: "onnxruntime"
        instance_group [ { kind: KIND_CPU host_policy: "numa0" } ]

    Finds: host_policy
    """

    id = "M23"
    severity = Severity.INFO


class PinnedDevices(Observed):
    """Instances are pinned to GPUs.

    Instances of tensor models keep their devices where the backend has any; workers of a language model choose
    theirs by `CUDA_VISIBLE_DEVICES`.

    Before models/resnet/config.pbtxt:

        backend: "onnxruntime"
        instance_group [ { kind: KIND_GPU gpus: [ 0, 1 ] } ]

    Finds: pinned to GPUs
    """

    id = "M24"
    severity = Severity.INFO


class Versions(Observed):
    """A version folder that is no plain number, or a version without the model's file.

    Triton loads versions from folders whose names are plain numbers, and expects the model's file in each.

    Before models/resnet/config.pbtxt:

        backend: "onnxruntime"

    Before models/resnet/v1/model.onnx:

        (a model)

    Finds: 'v1' is no version
    """

    id = "M36"
    severity = Severity.BLOCKER


RULES = (Placeholder, EnsembleSteps, Refused, OtherName, AbsentFiles, Unserved, PinnedDevices, Versions)
