"""The text of a deployment's files: where things stand in it, and edits that touch nothing else."""
