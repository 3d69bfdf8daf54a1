"""The demo's page: plain files that explain a run to somebody who looks rather than reads."""
