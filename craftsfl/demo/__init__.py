"""`craftsfl demo`: a whole consortium on this machine, with the processes of a real one."""
