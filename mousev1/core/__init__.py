"""The network whose features every neuron is read out from."""
