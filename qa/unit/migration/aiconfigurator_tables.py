"""Tables that aiconfigurator 0.12.0 saved for Llama 3 8B on vLLM, with the columns that are read, and a command that
saves them.
"""

from pathlib import Path

WORKER = "ttft,tpot,tokens/s/gpu_cluster,num_total_gpus"
PAIR = f"{WORKER},(p)workers,(d)workers,(p)tp,(p)pp,(p)dp,(p)cp,(d)tp,(d)pp,(d)dp"

TOGETHER = f"""{WORKER}
165.767,46.283,3409.101,1
138.527,43.664,2895.477,2
190.078,49.992,2365.12,4
"""
"""4 H100, prompts of 2048 and answers of 256 tokens, within 1 s and 50 ms."""
TOGETHER_OTHER = f"""{PAIR}
86.146,13.87,2407.104,4,2,1,1,1,1,1,2,1,1
86.146,26.519,2407.104,2,1,1,1,1,1,1,1,1,1
"""
APART_OTHER = f"""{WORKER}
129.562,9.046,1046.701,2
106.78,9.425,1015.846,4
170.758,9.88,947.878,1
133.613,9.512,797.143,8
"""
"""8 H200, prompts of 4096 and answers of 256 tokens, within 1 s and 10 ms."""
APART = f"""{PAIR}
183.794,6.863,1128.269,4,2,1,1,1,1,1,2,1,1
183.794,7.886,1128.269,8,4,1,1,1,1,1,4,1,1
183.794,8.774,1128.269,2,1,1,1,1,1,1,1,1,1
"""
RATE = f"""{WORKER},replicas_needed
165.767,46.283,3409.101,1,2
138.527,43.664,2895.477,2,1
190.078,49.992,2365.12,4,1
"""
"""20 requests a second on H100, as above; as many GPUs as they take."""
RATE_APART = f"""{PAIR},replicas_needed
86.146,16.767,2407.104,2,1,1,1,1,1,1,1,1,1,2
86.146,28.978,2407.104,4,2,1,1,1,1,1,2,1,1,1
"""


def save(folder: Path, aggregated: str, apart: str) -> Path:
    """Write tables where it writes them, and return the folder."""
    for way, table in (("agg", aggregated), ("disagg", apart)):
        place = folder / "weights_h100_sxm_vllm_isl2048" / way
        place.mkdir(parents=True)
        (place / "best_config_topn.csv").write_text(table)
    return folder


def command(folder: Path, script: str) -> Path:
    """Write a command of its name that runs a script, and return its file."""
    folder.mkdir(exist_ok=True)
    file = folder / "aiconfigurator"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def answering(folder: Path, aggregated: str, apart: str) -> Path:
    """Write a command that saves these tables, and keeps what it was asked in `asked` beside it."""
    folder.mkdir(exist_ok=True)
    tables = save(folder / "recorded", aggregated, apart)
    script = f"""echo "$@" >> {folder}/asked
echo "03:27:46 [aiconfigurator] [I] [main.py:3154] Loading AIConfigurator version: 0.12.0"
while [ "$1" != --save-dir ]; do shift; done
cp -r {tables}/. "$2"
"""
    return command(folder, script)
