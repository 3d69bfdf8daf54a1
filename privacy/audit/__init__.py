"""What an auditor checks of a study, from one file: no network, no torch, no word of anybody's."""
