"""Search spaces: what is tuned, with ranges, defaults and sources. It knows no library."""
