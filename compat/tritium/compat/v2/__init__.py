"""KServe v2 as Triton speaks it: requests and responses as JSON, binary and protobuf, with Triton's own words."""
