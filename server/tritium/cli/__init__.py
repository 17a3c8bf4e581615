"""The commands: tritium, tritonserver."""
