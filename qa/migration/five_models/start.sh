#!/bin/sh
# Two engines were built once; one is left.
python3 /tensorrtllm_backend/scripts/launch_triton_server.py --world_size=1 --model_repo=/models --http_port=8000
