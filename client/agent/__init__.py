"""The site agent: owns the patients' data, the model, the policy and the ledger; no network."""
