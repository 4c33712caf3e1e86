"""The co-separation network's weights: from PyTorch to ours and back, with proof."""
