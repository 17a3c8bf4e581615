#!/bin/sh
# How the engine was made.
huggingface-cli download meta-llama/Llama-3.1-8B-Instruct --local-dir /ckpt
trtllm-build --checkpoint_dir /ckpt --output_dir /engines/llama
