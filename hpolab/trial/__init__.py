"""One running trial: its reports, its lease and its checkpoints."""
