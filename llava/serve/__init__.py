"""The processes: controller, model worker, OpenAI-compatible gateway, terminal chat.

`security` decides who may ask, `limits` what may be asked, `refusal` how a no is said; every server of ours wears all three.
"""
