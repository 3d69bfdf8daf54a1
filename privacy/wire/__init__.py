"""Every message that leaves a site, or enters one: the one folder to review for that."""
