"""What the processes of a cluster share, whichever end they are: controller, model workers, and the engine that asks them.

wire      the words of the protocol, LLaVA's and ours
dial      a call of another process, under deadlines
secret    the secret that lets one process into another
hosts     what a host's name or address says of who has it
"""
