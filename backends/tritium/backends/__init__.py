"""What runs models: one folder or file a backend, behind the protocols of `contract` and `engine`."""
