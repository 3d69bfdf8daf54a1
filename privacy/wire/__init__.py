"""Every message that enters or leaves a site: the one folder to review for that."""
