"""Does the adapter learn? What a coordinator can measure on public images while a study runs."""
