"""A plan: what would be changed in a deployment, shown as diffs, with what is asked and what is left for a person."""
