"""A plan carried out: into a folder of its own, or in place with backups and a journal, and taken back."""
