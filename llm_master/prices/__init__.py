"""
What things cost: where prices are read from, the rules that choose among them, and the arithmetic.
"""
