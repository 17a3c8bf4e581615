"""The onnxruntime backend: ONNX models on the CPU (and on whatever providers the installed onnxruntime has).

backend    completes configurations, opens instances, shares one session among the instances of a version
graph      what the model file says of its inputs and outputs, against what the configuration says
session    configuration -> onnxruntime session options; the file -> a session
values     tensors in v2 binary form <-> what onnxruntime takes and gives
instance   one batch: stack, run, split
pace       whether a run is short enough to stay on the event loop
"""
