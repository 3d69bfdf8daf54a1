"""A CLIP tokenizer of about a thousand tokens: byte-level BPE that knows any text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

MAX_LENGTH = 48
_END_OF_WORD = "</w>"
_BOS, _EOS = "<|startoftext|>", "<|endoftext|>"


def _learn_merges(texts: Iterable[str], count: int) -> list[tuple[str, str]]:
    reference = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(BPE(end_of_word_suffix=_END_OF_WORD))
    learner.normalizer = reference.normalizer
    learner.pre_tokenizer = reference.pre_tokenizer
    trainer = BpeTrainer(
        vocab_size=256 + count,
        initial_alphabet=ByteLevel.alphabet(),
        end_of_word_suffix=_END_OF_WORD,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> CLIPTokenizer:
    """Train on texts; at most `vocabulary` tokens, of which 512 are the bytes.

    Every byte is a token, within a word and at its end, so no text has an unknown token
    (Sennrich et al. 2016 for BPE; Radford et al. 2019 for bytes; the layout is CLIP's).
    """
    letters = sorted(ByteLevel.alphabet())
    merges = _learn_merges(texts, vocabulary - 2 * len(letters) - 2)
    tokens = [*letters, *(letter + _END_OF_WORD for letter in letters)]
    tokens += [left + right for left, right in merges]
    tokens += [_BOS, _EOS]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    kind: Any = CLIPTokenizer  # its annotation of merges is narrower than what it accepts
    tokenizer: CLIPTokenizer = kind(vocab=vocab, merges=merges, model_max_length=MAX_LENGTH)
    return tokenizer
