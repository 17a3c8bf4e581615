"""An audit written down: for a terminal, a pull request, a scanner of findings, a manager."""
