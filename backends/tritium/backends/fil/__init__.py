"""The fil backend: forests of XGBoost, LightGBM and Treelite, predicted by Treelite on the CPU, in a process.

backend  completes configurations and opens instances
files    the kinds of forests, and the usual file of each
forest   what runs in the process: the file, its predictions, and what a client is told of them
"""
