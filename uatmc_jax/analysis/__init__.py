"""What a trained model does with its inputs, beyond how well it ranks."""
