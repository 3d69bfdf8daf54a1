"""ControlNets over a frozen base: nuclear masks and fluorescence as conditions of a sample."""
