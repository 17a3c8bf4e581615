"""Prompts turned into numbers: embeddings, scores, rankings and classes, where the engine pools."""
