"""The GPT of `networks.py` in eager PyTorch, a step at a time: the peer that `networks.py --torch PYTHON` starts.

It reads how many steps to take from a line on stdin and answers with a line when they are done, so that its steps stand
in turn with ours. It needs torch alone, and imports nothing of jaxprop. The network is the same one: 4 pre-norm blocks
128 wide, 4 heads, GELU by tanh, output weights tied to the embedding; attention is PyTorch's own
`scaled_dot_product_attention`.
"""

import sys

import torch
from torch import nn

VOCABULARY, WIDTH, DEPTH, HEADS, CONTEXT, BATCH = 96, 128, 4, 4, 128, 8


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.before_attention, self.before_dense = nn.LayerNorm(WIDTH, 1e-6), nn.LayerNorm(WIDTH, 1e-6)
        self.query, self.key, self.value = (
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH, False),
            nn.Linear(WIDTH, WIDTH),
        )
        self.output = nn.Linear(WIDTH, WIDTH)
        self.dense = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(approximate="tanh"), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x):
        normal = self.before_attention(x)
        heads = [ask(normal).unflatten(-1, (HEADS, -1)).transpose(1, 2) for ask in (self.query, self.key, self.value)]
        mixed = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).flatten(-2))
        return x + self.dense(self.before_dense(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.ids, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        self.blocks, self.last = nn.Sequential(*[Block() for _ in range(DEPTH)]), nn.LayerNorm(WIDTH, 1e-6)

    def forward(self, ids):
        return self.last(self.blocks(self.ids(ids) + self.places)) @ self.ids.weight.T


def main():
    torch.manual_seed(0)
    net, ids = GPT(), torch.randint(0, VOCABULARY, (BATCH, CONTEXT))
    for line in sys.stdin:
        for _ in range(int(line)):
            net.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(net(ids).flatten(0, 1), ids.flatten()).backward()
        print("done", flush=True)


if __name__ == "__main__":
    main()
