"""`python -m qa.proofs`: all that is claimed of fleets, in full and one after the other.

Real engines and what is moved between them, harm under load, two machines, pauses after a kill. The test suite has all
of it in a short form. Harm alone takes 17 minutes. What a machine cannot do (no vLLM, no etcd, not root) is told and
passed over; the exit status says whether what was run held.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_MOST_S = 3600.0
"""How long one proof may take before it counts as hung."""


def _has(program: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(program) else f"{program} is not installed"


def _vllm() -> str:
    return "" if importlib.util.find_spec("vllm") else "vLLM is not installed"


def _root() -> str:
    return "" if os.geteuid() == 0 and shutil.which("ip") else "network namespaces need root and iproute2"


@dataclass(frozen=True, slots=True)
class Proof:
    """A claim, and the module that shows it: its exit status is the verdict."""

    name: str
    claim: str
    line: Sequence[str]
    needs: Sequence[Callable[[], str]] = ()

    def missing(self) -> str:
        """Return why this machine cannot run it; empty where it can."""
        return ", ".join(filter(None, (need() for need in self.needs)))


PROOFS = (
    Proof(
        "vllm",
        "two vLLM workers, and two that prefill for one: equal answers, counted bytes, cached tokens, kills, roles",
        ("pytest", "-q", "qa/e2e/test_fleet_vllm.py", "qa/e2e/test_fleet_vllm_models.py"),
        (_vllm,),
    ),
    Proof(
        "embedded",
        "the same of the embedded engine, and kills as seen by every protocol",
        ("pytest", "-q", "qa/e2e/test_fleet_embedded.py", "qa/e2e/test_failover.py"),
    ),
    Proof(
        "cluster",
        "etcd and NATS killed and restarted, workers replaced, a cable pulled between two machines",
        ("pytest", "-q", "qa/e2e/test_cluster.py", "qa/e2e/test_cluster_events.py"),
        (_has("etcd"), _has("nats-server")),
    ),
    Proof("chaos", "workers and server killed and stopped at random for five minutes", ("qa.chaos",)),
    Proof(
        "chaos-disaggregated",
        "the same of a fleet that prefills elsewhere, with answers of a real model",
        ("qa.chaos", "--engine=embedded", "--fleet=disaggregated"),
    ),
    Proof(
        "chaos-cluster",
        "fronts, workers, etcd and NATS killed at random for five minutes",
        ("qa.chaos.cluster",),
        (_has("etcd"), _has("nats-server")),
    ),
    Proof(
        "chaos-faultless",
        "the same but for fronts, for two minutes: no request fails",
        ("qa.chaos.cluster", "--harm=worker,leave,etcd,nats", "--faultless", "--seconds=120"),
        (_has("etcd"), _has("nats-server")),
    ),
    Proof(
        "failover", "streams of a killed worker go on, whole and rightly counted; prints pauses", ("qa.bench.failover",)
    ),
    Proof(
        "machines",
        "2P+2D of real vLLM on two machines: answers of a single worker, KV over the cable",
        ("qa.bench.two_machines", "2", "2"),
        (_vllm, _has("etcd"), _root),
    ),
    Proof(
        "roles",
        "roles of found vLLM workers change under load, by either of two fronts: the same answers",
        ("qa.bench.found_roles",),
        (_vllm,),
    ),
)


def prove(proof: Proof) -> str:
    """Run one proof, and return `held`, `FAILED` or why it was passed over."""
    if missing := proof.missing():
        return f"passed over: {missing}"
    print(f"\n== {proof.name}: {proof.claim}\n   python -m {' '.join(proof.line)}", flush=True)
    try:
        done = subprocess.run([sys.executable, "-m", *proof.line], check=False, timeout=_MOST_S)
    except subprocess.TimeoutExpired:
        return f"FAILED: not over after {_MOST_S:.0f} s"
    return "held" if done.returncode == 0 else f"FAILED: exit status {done.returncode}"


def main() -> None:
    """Run all, or those named, and say which held."""
    names = [proof.name for proof in PROOFS]
    parser = argparse.ArgumentParser(prog="python -m qa.proofs", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(names)}")
    parser.add_argument("--list", action="store_true", help="say what there is, and what this machine cannot run")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"there is no proof {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [proof for proof in PROOFS if not options.names or proof.name in options.names]
    if options.list:
        for proof in chosen:
            print(f"{proof.name:22}{proof.missing() or 'can run':40}{proof.claim}")
        return
    verdicts = {}
    for proof in chosen:
        began_s = time.monotonic()
        verdicts[proof.name] = f"{prove(proof)} ({time.monotonic() - began_s:.0f} s)"
    print()
    for name, verdict in verdicts.items():
        print(f"{name:22}{verdict}")
    sys.exit(any(verdict.startswith("FAILED") for verdict in verdicts.values()))


if __name__ == "__main__":
    main()
