"""From what is felt or seen to what is done about it: mapping, governor, content, outcome and effect."""
