"""`craftsfl demo`: a whole consortium on one machine, with the same processes as a real one."""
