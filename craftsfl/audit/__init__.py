"""The auditor's desk: verify, report, tamper, sign. Imports neither coordinator nor agent."""
