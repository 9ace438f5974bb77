"""How the embedded model `mini` is made: its world, pictures, texts, training, evaluation and card.

Nothing in the package `llava` imports this; the result lies in llava/model/mini/.
"""
