"""A readers' study: questions, blinding, how many judgements it takes, and what they show."""
