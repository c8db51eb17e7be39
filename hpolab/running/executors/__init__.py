"""Where the trials of a run are trained: this process, local processes, a Ray cluster."""
