"""What a study is: how it is made, what made it, and which of its trials count."""
