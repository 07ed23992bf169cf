"""The parts that models are made of: each is a spec (a frozen value) and the `nn.Module` it builds."""
