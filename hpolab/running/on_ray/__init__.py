"""Workers on a Ray cluster: detached actors that outlive the process that started them."""
