"""API keys: who may ask for which models, how much, and what each has used."""
