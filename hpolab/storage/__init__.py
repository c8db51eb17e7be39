"""Where studies live: one URL for each kind of storage, and nothing told is lost in any."""
