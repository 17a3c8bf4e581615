"""The openvino backend: models that OpenVINO reads, on its CPU plugin, each instance in a process.

backend     completes configurations and opens instances
properties  parameters of the configuration -> properties of OpenVINO
shapes      a model's shapes against those of the configuration (pure)
model       what runs in the process: read, check, compile, execute
"""
