"""What a hospital has spent of its patients' privacy: read from the ledger, shown to people."""
