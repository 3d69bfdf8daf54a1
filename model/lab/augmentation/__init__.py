"""What synthetic pictures add to real ones: filtering, small learners, fair comparisons."""
