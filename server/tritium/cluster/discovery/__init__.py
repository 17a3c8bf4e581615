"""How fronts learn which workers there are: in this process, from a folder, or from etcd."""
