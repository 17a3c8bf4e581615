"""How fronts learn which workers there are: from a folder, or from etcd."""
