"""Language models: templates, tokens, text, and their KServe facade."""
