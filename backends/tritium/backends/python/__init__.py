"""Python models (`model.py`), each instance in a process of its own."""
