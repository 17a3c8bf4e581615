"""The pytorch backend: TorchScript, AOTInductor archives and torch.nn.Module classes, each instance in a process.

backend     chooses how a model is run, and refuses what can be refused without torch
naming      which argument an input is, and which result an output is, by their names (pure)
values      arrays <-> torch tensors and lists of strings
script      TorchScript: model.pt
archive     AOTInductor: model.pt2, and the names of its nested arguments and results
module      the PyTorch 2 runtime: model.py with a torch.nn.Module, and its weights in model.pt
"""
