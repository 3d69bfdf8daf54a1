"""The trainer, a process of its own: it has the model, the tiles and the GPU, and no key.

The site agent forks a `nursery` at its start, which forks one trainer after the other. In a trainer
run `running`, `serving` and `loading`; in the agent run
`keeper` and `process`, which import no torch; both speak `frames` over a `channel`.
"""
