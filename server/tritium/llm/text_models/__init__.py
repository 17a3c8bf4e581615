"""Tensor models with text in and text out, offered as language models by a few lines of their configuration."""
