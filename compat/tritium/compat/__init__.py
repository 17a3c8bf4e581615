"""What must equal Triton to the byte: configuration, codecs, flags, messages. Imports nothing of ours."""
