"""A hospital's desk: how things stand here, what was asked, what to do when something is wrong."""
