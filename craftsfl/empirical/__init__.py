"""Does what is installed here keep the promise? Canaries through a site's own training code."""

# Why: docs/adr/0061-the-empirical-audit.md
